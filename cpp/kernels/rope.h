// Rotary positions, and keys and values into their pages.

inline void rotate_head(const float* x, const float* cosines, const float* sines, int pairs,
                        RopeStyle style, float* y) {
  for (int i = 0; i < pairs; ++i) {
    const int a = style == RopeStyle::Halves ? i : 2 * i;
    const int b = style == RopeStyle::Halves ? i + pairs : 2 * i + 1;
    const float first = x[a];
    const float second = x[b];
    y[a] = first * cosines[i] - second * sines[i];
    y[b] = second * cosines[i] + first * sines[i];
  }
}

inline void rope(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& operand = instruction.one(Role::X);
  const FloatRows x = frame.floats(operand);
  const FloatRows y = frame.floats(instruction.one(Role::Y));
  const Rotation& rotation = frame.rotations[size_t(instruction.table)];
  const int width = operand.columns / instruction.heads;
  const int rows = frame.rows(operand);
  for (int begin, end; lane.claim(rows, lane.piece(rows), begin, end);)
    for (int row = begin; row < end; ++row)
      for (int head = 0; head < instruction.heads; ++head)
        rotate_head(x.row(row) + head * width, rotation.cosines(row), rotation.sines(row),
                    rotation.pairs(), instruction.style, y.row(row) + head * width);
}

// Quantises one head of a token to int8; returns its scale.
inline float quantize_head(const float* x, int columns, int8_t* to) {
  float most = 0.0f;
  for (int i = 0; i < columns; ++i) most = std::max(most, std::fabs(x[i]));
  const float scale = most / 127.0f;
  const float steps = most > 0.0f ? 127.0f / most : 0.0f;
  for (int i = 0; i < columns; ++i)
    to[i] = static_cast<int8_t>(static_cast<int>(std::nearbyint(x[i] * steps)));
  return scale;
}

// One head's key and value of one token to slot `slot` of page `page`.
inline void store_head(const Cache& cache, int page, int head, int slot, const float* k,
                       const float* v) {
  const int width = cache.head_dim;
  const int stride = cache.value_stride();
  uint8_t* keys = cache.keys(page, head);
  uint8_t* values = cache.values(page, head);
  if (cache.format == KvFormat::F32) {
    for (int i = 0; i < width; ++i) reinterpret_cast<float*>(keys)[i * kPageTokens + slot] = k[i];
    for (int i = 0; i < width; ++i) reinterpret_cast<float*>(values)[slot * stride + i] = v[i];
    return;
  }
  if (cache.format == KvFormat::F16) {
    uint16_t* key = reinterpret_cast<uint16_t*>(keys) + slot;
    uint16_t* value = reinterpret_cast<uint16_t*>(values) + slot * stride;
    uint16_t halves[16];
    for (int i = 0; i < width; i += 16) {
      const int n = width - i < 16 ? width - i : 16;
      vstore_half(halves, vload_tail(k, i, width));
      for (int lane = 0; lane < n; ++lane) key[(i + lane) * kPageTokens] = halves[lane];
      vstore_half(value + i, vload_tail(v, i, width));
    }
    return;
  }
  int8_t quantized[kMostHeadColumns];
  cache.key_scales(page, head)[slot] = quantize_head(k, width, quantized);
  for (int i = 0; i < width; ++i)
    reinterpret_cast<int8_t*>(keys)[i * kPageTokens + slot] = quantized[i];
  cache.value_scales(page, head)[slot] =
      quantize_head(v, width, reinterpret_cast<int8_t*>(values) + slot * stride);
}

inline void store_token(const Frame& frame, const Cache& cache, int row, int head, const float* k,
                        const float* v) {
  const int position = frame.batch.positions[size_t(row)];
  const int32_t* pages = frame.batch.pages_of(frame.batch.sequence_of[size_t(row)]);
  store_head(cache, pages[position / kPageTokens], head, position % kPageTokens, k, v);
}

inline void store(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& keys = instruction.one(Role::K);
  const FloatRows k = frame.floats(keys);
  const FloatRows v = frame.floats(instruction.one(Role::V));
  const Cache& cache = frame.cache(instruction.one(Role::Cache));
  const int width = cache.head_dim;
  const int rows = frame.rows(keys);
  for (int begin, end; lane.claim(rows, lane.piece(rows), begin, end);)
    for (int row = begin; row < end; ++row)
      for (int head = 0; head < cache.heads; ++head)
        store_token(frame, cache, row, head, k.row(row) + head * width, v.row(row) + head * width);
}

// Norm (if any) and rotation of one head; `y` may be `x`.
inline void turn_head(const Instruction& instruction, const Rotation& rotation, int row,
                      const float* w, const float* x, int width, float* y) {
  float room[kMostHeadColumns];
  if (w) {
    rms_normalize(x, w, width, instruction.epsilon, room);
    x = room;
  }
  rotate_head(x, rotation.cosines(row), rotation.sines(row), rotation.pairs(), instruction.style,
              y);
}

inline void rope_store(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& queries = instruction.one(Role::Q);
  const FloatRows q = frame.floats(queries);
  const FloatRows y = frame.floats(instruction.one(Role::Y));
  const FloatRows k = frame.floats(instruction.one(Role::K));
  const FloatRows v = frame.floats(instruction.one(Role::V));
  const float* q_norm =
      instruction.has(Role::QNorm) ? frame.vector(instruction.one(Role::QNorm)) : nullptr;
  const float* k_norm =
      instruction.has(Role::KNorm) ? frame.vector(instruction.one(Role::KNorm)) : nullptr;
  const Cache& cache = frame.cache(instruction.one(Role::Cache));
  const Rotation& rotation = frame.rotations[size_t(instruction.table)];
  const int width = cache.head_dim;
  // One unit is one head of one token. A few tokens of one sequence stand in one page, whose keys
  // share cache lines that lanes would take from each other: then all tokens of a head come one
  // after another, keys and values first, so that who is done early helps with queries. (16 tokens,
  // two threads: 25 µs a layer token by token, 15 head by head; 512 tokens: 84 and 156.)
  const int rows = frame.rows(queries);
  const int heads = instruction.heads + cache.heads;
  const bool by_head = rows <= kPageTokens && rows > frame.batch.sequences;
  const int units = rows * heads;
  const int inner = by_head ? rows : heads;
  for (int begin, end; lane.claim(units, lane.piece(units), begin, end);)
    for (int unit = begin; unit < end; ++unit) {
      const int row = by_head ? unit % inner : unit / inner;
      const int head = by_head ? unit / inner : unit % inner;
      if (head < cache.heads) {
        float key[kMostHeadColumns];
        turn_head(instruction, rotation, row, k_norm, k.row(row) + head * width, width, key);
        store_token(frame, cache, row, head, key, v.row(row) + head * width);
        continue;
      }
      const int column = (head - cache.heads) * width;
      turn_head(instruction, rotation, row, q_norm, q.row(row) + column, width,
                y.row(row) + column);
    }
}
