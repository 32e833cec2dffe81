// Softmax attention over KV pages or over the rows of a sequence.
//
// Contexts are cut into chunks of 256 positions, at fixed places. Each chunk gives every query row
// its own maximum, sum and weighted values; chunks are then merged in order. Whoever computes a
// chunk, and whatever other rows share the tile, a row's numbers are the same: keys that a row must
// not see get the weight 0, and adding 0 changes no sum.

inline constexpr int kChunk = 256;
inline constexpr int kQueryRows = 24;  // query rows of a unit of work: scores stay in L1
inline constexpr int kScoreStride =
    kChunk + 16;  // a multiple of 4 KiB would crowd a few cache sets
inline constexpr int kPagesAhead = 2;
inline constexpr int kChunkPages = kChunk / kPageTokens;

template <KvFormat E>
[[gnu::always_inline]] inline Vf load_kv(const uint8_t* base, size_t element) {
  if constexpr (E == KvFormat::F32) return vload(reinterpret_cast<const float*>(base) + element);
  if constexpr (E == KvFormat::F16)
    return vload_half(reinterpret_cast<const uint16_t*>(base) + element);
  return vload_i8(reinterpret_cast<const int8_t*>(base) + element);
}

constexpr size_t kv_bytes(KvFormat format) {
  return format == KvFormat::F32 ? 4 : format == KvFormat::F16 ? 2 : 1;
}

// Keys and values of one head, one chunk long.
struct ChunkSource {
  const uint8_t* keys[kChunkPages];      // [columns][kPageTokens] each
  const uint8_t* values[kChunkPages];    // [kPageTokens][value_stride]
  const float* key_scales[kChunkPages];  // null but for I8
  const float* value_scales[kChunkPages];
  size_t value_stride;               // elements
  const uint8_t* next[kChunkPages];  // keys that will be needed after this chunk, or null
};

// What will be needed soon: the keys of a page some way ahead, and the values of this one.
struct PagesAhead {
  const uint8_t* keys;
  const uint8_t* values;
};

// R queries x the 32 keys of a page; scores are kScoreStride floats apart. With `Fetch` it asks
// for the lines ahead while it computes: few rows are bound by memory.
template <int R, KvFormat E, bool Fetch>
void score_tile(const float* q, int columns, const uint8_t* keys, float* scores, PagesAhead ahead) {
  constexpr size_t row_bytes = kPageTokens * kv_bytes(E);
  // Columns go to the chains in turn, so that a few rows do not wait for their own sums.
  Vf sums[kScoreChains][R][2];
  unroll<2 * R * kScoreChains>([&](auto i)
                                   INLINE { sums[i / (2 * R)][i / 2 % R][i % 2] = vzero(); });
  const auto add_column = [&](int d, auto chain) INLINE {
    if constexpr (Fetch) {
      vprefetch(ahead.keys + size_t(d) * row_bytes);
      vprefetch_near(ahead.values + size_t(d) * row_bytes);
    }
    const Vf k0 = load_kv<E>(keys, size_t(d) * kPageTokens);
    const Vf k1 = load_kv<E>(keys, size_t(d) * kPageTokens + 16);
    unroll<R>([&](auto r) INLINE {
      const Vf value = vset(q[r * columns + d]);
      sums[chain][r][0] = vfma(value, k0, sums[chain][r][0]);
      sums[chain][r][1] = vfma(value, k1, sums[chain][r][1]);
    });
  };
  int d = 0;
  for (; d + kScoreChains <= columns; d += kScoreChains)
    unroll<kScoreChains>([&](auto chain) INLINE { add_column(d + chain, chain); });
  for (; d < columns; ++d) add_column(d, std::integral_constant<int, 0>{});
  unroll<2 * R>([&](auto i) INLINE {
    Vf sum = sums[0][i / 2][i % 2];
    if constexpr (kScoreChains > 1) sum = vadd(sum, sums[1][i / 2][i % 2]);
    vstore(scores + kScoreStride * (i / 2) + 16 * (i % 2), sum);
  });
}

// R rows of weights x keys first … last − 1, into N · 16 columns of out from column `column` on.
template <int R, int N, KvFormat E>
void value_tile(const float* weights, const ChunkSource& source, int first, int last, int column,
                float* out, int out_stride) {
  constexpr size_t bytes = kv_bytes(E);
  Vf sums[R][N];
  unroll<R * N>([&](auto i) INLINE { sums[i / N][i % N] = vzero(); });
  for (int key = first; key < last;) {
    const uint8_t* page = source.values[key / kPageTokens];
    // Keys take as much room as values: the next ones come in while these values are read.
    const uint8_t* next = source.next[key / kPageTokens];
    const int stop = std::min(last, (key / kPageTokens + 1) * kPageTokens);
    for (; key < stop; ++key) {
      const size_t at = size_t(key % kPageTokens) * source.value_stride + size_t(column);
      if (next)
        unroll<(16 * N * bytes + 63) / 64>(
            [&](auto line) INLINE { vprefetch_near(next + at * bytes + 64 * line); });
      Vf values[N];
      unroll<N>([&](auto n) INLINE { values[n] = load_kv<E>(page, at + 16 * n); });
      unroll<R>([&](auto r) INLINE {
        const Vf weight = vset(weights[r * kScoreStride + key]);
        unroll<N>([&](auto n) INLINE { sums[r][n] = vfma(weight, values[n], sums[r][n]); });
      });
    }
  }
  unroll<R * N>([&](auto i) INLINE {
    vstore(out + (i / N) * out_stride + column + 16 * (i % N), sums[i / N][i % N]);
  });
}

using ScoreTile = void (*)(const float*, int, const uint8_t*, float*, PagesAhead);
using ValueTile = void (*)(const float*, const ChunkSource&, int, int, int, float*, int);

template <KvFormat E>
struct AttentionTiles {
  template <bool Fetch, int... R>
  static constexpr std::array<ScoreTile, kAttendRows> scores(std::integer_sequence<int, R...>) {
    return {score_tile<R + 1, E, Fetch>...};
  }
  template <int N, int... R>
  static constexpr std::array<ValueTile, kAttendRows> values(std::integer_sequence<int, R...>) {
    return {value_tile<R + 1, N, E>...};
  }
  static constexpr auto kRows = std::make_integer_sequence<int, kAttendRows>{};
  std::array<ScoreTile, kAttendRows> score = scores<false>(kRows);
  std::array<ScoreTile, kAttendRows> fetching_score = scores<true>(kRows);
  std::array<std::array<ValueTile, kAttendRows>, 4> value = {values<1>(kRows), values<2>(kRows),
                                                             values<3>(kRows), values<4>(kRows)};
};

// The rows of one unit of work and what they have seen so far.
struct QueryBlock {
  int rows;
  int columns;     // of a head
  int out_stride;  // columns rounded up to whole vectors
  float* q;        // [rows][columns], scaled
  int* first;      // first and one past the last position that a row sees
  int* last;
  float* most;  // [rows]
  float* sum;   // [rows]
  float* out;   // [rows][out_stride]
};

inline void mask_scores(float* scores, int low, int high, int count) {
  const float nothing = -__builtin_inff();
  for (int key = 0; key < low; ++key) scores[key] = nothing;
  for (int key = high; key < count; ++key) scores[key] = nothing;
}

// Sixteen of the scales of a chunk's keys or values, which lie page by page.
inline Vf load_scale(const float* const* scales, int key) {
  return vload(scales[key / kPageTokens] + key % kPageTokens);
}

// Scores to weights in place; `count` is a multiple of 32. int8 keys still lack their scales; the
// weights of int8 values take over theirs.
template <KvFormat E>
inline void soften(float* scores, int low, int high, int count, const ChunkSource& source,
                   float& most, float& sum) {
  if constexpr (E == KvFormat::I8)
    for (int key = 0; key < count; key += 16)
      vstore(scores + key, vmul(vload(scores + key), load_scale(source.key_scales, key)));
  mask_scores(scores, low, high, count);
  Vf highest = vset(-__builtin_inff());
  for (int key = 0; key < count; key += 16) highest = vmax(highest, vload(scores + key));
  most = vmost(highest);
  const Vf base = vset(most);
  Vf total = vzero();
  for (int key = 0; key < count; key += 16) {
    Vf weight = vexp_bounded(vsub(vload(scores + key), base));
    total = vadd(total, weight);
    if constexpr (E == KvFormat::I8) weight = vmul(weight, load_scale(source.value_scales, key));
    vstore(scores + key, weight);
  }
  sum = vsum(total);
}

// What each row draws from the chunk that starts at position `start`: most, sum and out.
template <KvFormat E>
void attend_chunk(const QueryBlock& block, const ChunkSource& source, int start, float* scores) {
  static constexpr AttentionTiles<E> kTiles;
  int reach = 0;
  for (int r = 0; r < block.rows; ++r) reach = std::max(reach, block.last[r] - start);
  reach = std::min(reach, kChunk);
  const int pages = (reach + kPageTokens - 1) / kPageTokens;
  const bool few = block.rows <= kAttendRows;
  const auto& score = few ? kTiles.fetching_score : kTiles.score;
  for (int page = 0; page < pages; ++page) {
    const PagesAhead ahead{source.keys[std::min(page + kPagesAhead, pages - 1)],
                           source.values[page]};
    for (int r = 0; r < block.rows; r += kAttendRows) {
      const int n = std::min(kAttendRows, block.rows - r);
      score[size_t(n - 1)](block.q + r * block.columns, block.columns, source.keys[page],
                           scores + r * kScoreStride + page * kPageTokens, ahead);
    }
  }
  int tile_low[kQueryRows];
  int tile_high[kQueryRows];
  for (int r = 0; r < block.rows; ++r) {
    float* row = scores + r * kScoreStride;
    const int low = std::max(0, block.first[r] - start);
    const int high = std::min(reach, block.last[r] - start);
    tile_low[r] = low < high ? low : kChunk;
    tile_high[r] = low < high ? high : 0;
    if (low >= high) {
      block.most[r] = -__builtin_inff();
      block.sum[r] = 0.0f;
      std::fill(row, row + pages * kPageTokens, 0.0f);
      continue;
    }
    soften<E>(row, low, high, pages * kPageTokens, source, block.most[r], block.sum[r]);
  }
  for (int r = 0; r < block.rows; r += kAttendRows) {
    const int n = std::min(kAttendRows, block.rows - r);
    const int low = *std::min_element(tile_low + r, tile_low + r + n);
    const int high = *std::max_element(tile_high + r, tile_high + r + n);
    for (int column = 0; column < block.out_stride; column += 64) {
      const int vectors = std::min(4, (block.out_stride - column) / 16);
      kTiles.value[size_t(vectors - 1)][size_t(n - 1)](scores + r * kScoreStride, source, low, high,
                                                       column, block.out + r * block.out_stride,
                                                       block.out_stride);
    }
  }
}

// Adds a chunk's result to what a row has so far.
inline void merge_row(float chunk_most, float chunk_sum, const float* chunk_out, int stride,
                      float& most, float& sum, float* out) {
  if (chunk_sum == 0.0f) return;
  const float highest = std::max(most, chunk_most);
  float factors[16] = {most - highest, chunk_most - highest};
  vstore(factors, vexp(vload(factors)));
  const float old = factors[0];
  const float fresh = factors[1];
  sum = sum * old + chunk_sum * fresh;
  for (int column = 0; column < stride; column += 16) {
    const Vf kept = vmul(vload(out + column), vset(old));
    vstore(out + column, vfma(vload(chunk_out + column), vset(fresh), kept));
  }
  most = highest;
}

// A lane's room for one unit of work.
struct AttendScratch {
  QueryBlock block;
  float* scores;  // [kQueryRows][kScoreStride]
  float* most;    // running maxima, sums and values
  float* sum;
  float* out;
  uint8_t* rest;

  AttendScratch(uint8_t* at, int columns) {
    const auto take = [&](size_t floats) {
      float* here = reinterpret_cast<float*>(at);
      at += round_up(4 * floats, 64);
      return here;
    };
    const int stride = static_cast<int>(round_up(size_t(columns), kLanes));
    const size_t rows = kQueryRows;
    block = {0,
             columns,
             stride,
             take(rows * size_t(columns)),
             reinterpret_cast<int*>(take(rows)),
             reinterpret_cast<int*>(take(rows)),
             take(rows),
             take(rows),
             take(rows * size_t(stride))};
    scores = take(rows * kScoreStride);
    most = take(rows);
    sum = take(rows);
    out = take(rows * size_t(stride));
    rest = at;
  }

  void clear() {
    std::fill(most, most + block.rows, -__builtin_inff());
    std::fill(sum, sum + block.rows, 0.0f);
    std::fill(out, out + block.rows * block.out_stride, 0.0f);
  }
  void merge() {
    for (int r = 0; r < block.rows; ++r)
      merge_row(block.most[r], block.sum[r], block.out + r * block.out_stride, block.out_stride,
                most[r], sum[r], out + r * block.out_stride);
  }
};

// Writes a head's result for one token.
inline void finish_head(const Frame& frame, const Operand& y, int row, int head, int columns,
                        const float* out, float sum) {
  const Vf factor = vset(1.0f / sum);
  if (frame.quantized(y)) {
    const QuantizedRow to = frame.quantized_rows(y).row(row);
    for (int i = 0; i < columns; i += kGroup)
      quantize_group(vmul(vload(out + i), factor), vmul(vload(out + i + 16), factor), to,
                     (head * columns + i) / kGroup);
    return;
  }
  float* to = frame.floats(y).row(row) + head * columns;
  for (int i = 0; i < columns; i += 16) vstore_tail(to, i, columns, vmul(vload(out + i), factor));
}

// The units of Attend: some tokens of a sequence, all query heads that share one KV head.
struct AttendShape {
  int shared;  // query heads of a KV head
  int kv_heads;
  int tokens;  // of a unit

  AttendShape(const Frame& frame, const Instruction& instruction)
      : kv_heads(frame.cache(instruction.one(Role::Cache)).heads) {
    shared = instruction.heads / kv_heads;
    tokens = std::max(1, kQueryRows / shared);
  }
  int blocks(const Batch& batch, int sequence) const {
    return (batch.length(sequence) + tokens - 1) / tokens;
  }
  int units(const Batch& batch) const {
    int total = 0;
    for (int s = 0; s < batch.sequences; ++s) total += blocks(batch, s);
    return total * kv_heads;
  }
};

// Finds the sequence of unit numbers, which mostly rise.
struct UnitWalker {
  const Batch& batch;
  const AttendShape& shape;
  int sequence = 0;
  int base = 0;

  struct Unit {
    int sequence;
    int head;
    int first;  // token within the sequence
    int tokens;
  };

  Unit seek(int unit) {
    if (unit < base) base = sequence = 0;
    while (unit >= base + shape.blocks(batch, sequence) * shape.kv_heads) {
      base += shape.blocks(batch, sequence) * shape.kv_heads;
      ++sequence;
    }
    const int blocks = shape.blocks(batch, sequence);
    const int first = (unit - base) % blocks * shape.tokens;
    return {sequence, (unit - base) / blocks, first,
            std::min(shape.tokens, batch.length(sequence) - first)};
  }
};

// Query rows lie token by token, the heads of a token side by side.
inline void load_queries(const Frame& frame, const Instruction& instruction,
                         const AttendShape& shape, const UnitWalker::Unit& unit, AttendScratch& s) {
  const FloatRows q = frame.floats(instruction.one(Role::Q));
  const int columns = s.block.columns;
  s.block.rows = unit.tokens * shape.shared;
  const Vf scale = vset(instruction.scale);
  for (int t = 0; t < unit.tokens; ++t) {
    const int row = frame.batch.starts[unit.sequence] + unit.first + t;
    const int position = frame.batch.contexts[unit.sequence] + unit.first + t;
    const float* from = q.row(row) + unit.head * shape.shared * columns;
    float* to = s.block.q + t * shape.shared * columns;
    const int width = shape.shared * columns;
    for (int i = 0; i < width; i += 16)
      vstore_tail(to, i, width, vmul(vload_tail(from, i, width), scale));
    for (int h = 0; h < shape.shared; ++h) {
      const int r = t * shape.shared + h;
      s.block.last[r] = position + 1;
      s.block.first[r] =
          instruction.window > 0 ? std::max(0, position + 1 - instruction.window) : 0;
    }
  }
}

inline void finish_unit(const Frame& frame, const Instruction& instruction,
                        const AttendShape& shape, const UnitWalker::Unit& unit,
                        const AttendScratch& s) {
  for (int r = 0; r < s.block.rows; ++r)
    finish_head(frame, instruction.one(Role::Y),
                frame.batch.starts[unit.sequence] + unit.first + r / shape.shared,
                unit.head * shape.shared + r % shape.shared, s.block.columns,
                s.out + r * s.block.out_stride, s.sum[r]);
}

inline ChunkSource paged_chunk(const Cache& cache, const int32_t* pages, int head, int start,
                               int stop) {
  ChunkSource source{};
  source.value_stride = size_t(cache.value_stride());
  for (int p = 0; p < kChunkPages && start + p * kPageTokens < stop; ++p) {
    const int page = pages[start / kPageTokens + p];
    source.keys[p] = cache.keys(page, head);
    source.values[p] = cache.values(page, head);
    if (cache.format == KvFormat::I8) {
      source.key_scales[p] = cache.key_scales(page, head);
      source.value_scales[p] = cache.value_scales(page, head);
    }
  }
  return source;
}

// A chunk of a unit's context.
struct UnitChunk {
  UnitWalker::Unit unit;
  int start;
};

// `next` is where this lane will probably go on, or null.
inline void attend_paged_chunk(const Frame& frame, const Cache& cache, const UnitChunk& at,
                               const UnitChunk* next, AttendScratch& s) {
  const auto chunk_of = [&](const UnitChunk& chunk) {
    const UnitWalker::Unit& unit = chunk.unit;
    const int stop = frame.batch.contexts[unit.sequence] + unit.first + unit.tokens;
    return paged_chunk(cache, frame.batch.pages_of(unit.sequence), unit.head, chunk.start, stop);
  };
  ChunkSource source = chunk_of(at);
  const int start = at.start;
  if (next && s.block.rows <= kAttendRows) {
    const ChunkSource after = chunk_of(*next);
    std::copy(after.keys, after.keys + kChunkPages, source.next);
  }
  switch (cache.format) {
    case KvFormat::F32: return attend_chunk<KvFormat::F32>(s.block, source, start, s.scores);
    case KvFormat::F16: return attend_chunk<KvFormat::F16>(s.block, source, start, s.scores);
    case KvFormat::I8: return attend_chunk<KvFormat::I8>(s.block, source, start, s.scores);
  }
}

// Chunks that at least one row of a unit sees.
struct ChunkRange {
  int first;
  int last;

  ChunkRange(const Frame& frame, const Instruction& instruction, const UnitWalker::Unit& unit) {
    const int position = frame.batch.contexts[unit.sequence] + unit.first;
    const int seen = instruction.window > 0 ? position + 1 - instruction.window : 0;
    first = std::max(0, seen) / kChunk;
    last = (position + unit.tokens - 1) / kChunk;
  }
};

inline int most_chunks(const Batch& batch) {
  int most = 0;
  for (int s = 0; s < batch.sequences; ++s)
    most = std::max(most, (batch.contexts[s] + batch.length(s) + kChunk - 1) / kChunk);
  return most;
}

// Few units over long contexts: threads share the chunks of a unit.
inline bool splits_attention(const Frame& frame, const Instruction& instruction, int threads) {
  const AttendShape shape(frame, instruction);
  return threads > 1 && most_chunks(frame.batch) > 1 && shape.units(frame.batch) < 4 * threads;
}

inline size_t partial_stride(const Cache& cache) {
  return size_t(kQueryRows) * (size_t(cache.value_stride()) + 2);
}

inline size_t partial_floats(const Frame& frame, const Instruction& instruction) {
  const AttendShape shape(frame, instruction);
  return size_t(shape.units(frame.batch)) * most_chunks(frame.batch) *
         partial_stride(frame.cache(instruction.one(Role::Cache)));
}

inline void attend_whole(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Cache& cache = frame.cache(instruction.one(Role::Cache));
  const AttendShape shape(frame, instruction);
  AttendScratch s(lane.scratch, cache.head_dim);
  UnitWalker walker{frame.batch, shape};
  const int units = shape.units(frame.batch);
  for (int begin, end; lane.claim(units, 1, begin, end);) {
    const UnitWalker::Unit unit = walker.seek(begin);
    load_queries(frame, instruction, shape, unit, s);
    s.clear();
    const ChunkRange chunks(frame, instruction, unit);
    UnitChunk next{unit, 0};
    for (int chunk = chunks.first; chunk <= chunks.last; ++chunk) {
      bool goes_on = true;
      if (chunk < chunks.last) {
        next.start = (chunk + 1) * kChunk;
      } else if (begin + 1 < units) {
        next.unit = UnitWalker(walker).seek(begin + 1);
        next.start = ChunkRange(frame, instruction, next.unit).first * kChunk;
      } else {
        goes_on = false;
      }
      attend_paged_chunk(frame, cache, {unit, chunk * kChunk}, goes_on ? &next : nullptr, s);
      s.merge();
    }
    finish_unit(frame, instruction, shape, unit, s);
  }
}

// One piece of work is one chunk of one unit; its result waits in the partials.
inline void attend_split(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Cache& cache = frame.cache(instruction.one(Role::Cache));
  const AttendShape shape(frame, instruction);
  AttendScratch s(lane.scratch, cache.head_dim);
  UnitWalker walker{frame.batch, shape};
  const int chunks = most_chunks(frame.batch);
  const size_t stride = partial_stride(cache);
  for (int begin, end; lane.claim(shape.units(frame.batch) * chunks, 1, begin, end);) {
    const UnitWalker::Unit unit = walker.seek(begin / chunks);
    load_queries(frame, instruction, shape, unit, s);
    const int chunk = begin % chunks;
    const ChunkRange range(frame, instruction, unit);
    if (chunk < range.first || chunk > range.last) continue;
    const UnitChunk next{unit, (chunk + 1) * kChunk};
    attend_paged_chunk(frame, cache, {unit, chunk * kChunk}, chunk < range.last ? &next : nullptr,
                       s);
    float* to = frame.partials + size_t(begin) * stride;
    std::copy(s.block.most, s.block.most + s.block.rows, to);
    std::copy(s.block.sum, s.block.sum + s.block.rows, to + kQueryRows);
    std::copy(s.block.out, s.block.out + s.block.rows * s.block.out_stride, to + 2 * kQueryRows);
  }
}

inline void merge_attention(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Cache& cache = frame.cache(instruction.one(Role::Cache));
  const AttendShape shape(frame, instruction);
  AttendScratch s(lane.scratch, cache.head_dim);
  UnitWalker walker{frame.batch, shape};
  const int chunks = most_chunks(frame.batch);
  const size_t stride = partial_stride(cache);
  for (int begin, end; lane.claim(shape.units(frame.batch), 1, begin, end);) {
    const UnitWalker::Unit unit = walker.seek(begin);
    load_queries(frame, instruction, shape, unit, s);
    s.clear();
    const ChunkRange range(frame, instruction, unit);
    for (int chunk = range.first; chunk <= range.last; ++chunk) {
      const float* from = frame.partials + (size_t(begin) * chunks + chunk) * stride;
      for (int r = 0; r < s.block.rows; ++r)
        merge_row(from[r], from[kQueryRows + r], from + 2 * kQueryRows + r * s.block.out_stride,
                  s.block.out_stride, s.most[r], s.sum[r], s.out + r * s.block.out_stride);
    }
    finish_unit(frame, instruction, shape, unit, s);
  }
}

inline void attend(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  if (splits_attention(frame, instruction, lane.count))
    attend_split(frame, instruction, lane);
  else
    attend_whole(frame, instruction, lane);
}

// Keys of one head of a sequence into pages of f32, [columns][kPageTokens] each.
inline void pack_keys(const FloatRows& k, int first_row, int tokens, int head, int columns,
                      float* keys) {
  constexpr int tile = 16;
  for (int t = 0; t < tokens; t += tile) {
    const float* from = k.row(first_row + t) + head * columns;
    for (int row = 0; row < tile; ++row) vprefetch(from + size_t(row + tile) * k.stride);
    float* to = keys + size_t(t / kPageTokens) * kPageTokens * columns + t % kPageTokens;
    const bool whole = tokens - t >= tile;
    for (int i = 0; i < columns; i += tile) {
      if (whole && columns - i >= tile) {
        transpose_16(from + i, k.stride, to + i * kPageTokens, kPageTokens);
        continue;
      }
      const int rows = std::min(tile, tokens - t);
      for (int column = i; column < std::min(i + tile, columns); ++column)
        for (int row = 0; row < rows; ++row)
          to[column * kPageTokens + row] = from[size_t(row) * k.stride + column];
    }
  }
}

// Values of one head of a sequence, [tokens][stride].
inline void pack_values(const FloatRows& v, int first_row, int tokens, int head, int columns,
                        int stride, float* values) {
  for (int t = 0; t < tokens; ++t) {
    const float* value = v.row(first_row + t) + head * columns;
    vprefetch(value + 16 * v.stride);
    for (int i = 0; i < stride; i += 16)
      vstore(values + size_t(t) * stride + i, vload_tail(value, i, columns));
  }
}

inline void attend_all(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& queries = instruction.one(Role::Q);
  const FloatRows q = frame.floats(queries);
  const FloatRows k = frame.floats(instruction.one(Role::K));
  const FloatRows v = frame.floats(instruction.one(Role::V));
  const int columns = queries.columns / instruction.heads;
  AttendScratch s(lane.scratch, columns);
  const int stride = s.block.out_stride;
  const int units = frame.batch.sequences * instruction.heads;
  for (int begin, end; lane.claim(units, 1, begin, end);) {
    const int sequence = begin / instruction.heads;
    const int head = begin % instruction.heads;
    const int first_row = frame.batch.starts[sequence];
    const int tokens = frame.batch.length(sequence);
    const int pages = (tokens + kPageTokens - 1) / kPageTokens;
    float* keys = reinterpret_cast<float*>(s.rest);
    float* values = keys + size_t(pages) * kPageTokens * columns;
    pack_keys(k, first_row, tokens, head, columns, keys);
    pack_values(v, first_row, tokens, head, columns, stride, values);
    for (int t = 0; t < tokens; t += kQueryRows) {
      s.block.rows = std::min(kQueryRows, tokens - t);
      for (int r = 0; r < s.block.rows; ++r) {
        const float* from = q.row(first_row + t + r) + head * columns;
        for (int i = 0; i < columns; ++i) s.block.q[r * columns + i] = from[i] * instruction.scale;
        s.block.first[r] = 0;
        s.block.last[r] = tokens;
      }
      s.clear();
      for (int start = 0; start < tokens; start += kChunk) {
        ChunkSource source{};
        source.value_stride = size_t(stride);
        for (int p = 0; p < kChunkPages && start / kPageTokens + p < pages; ++p) {
          const size_t page = size_t(start / kPageTokens + p);
          source.keys[p] = reinterpret_cast<uint8_t*>(keys + page * kPageTokens * columns);
          source.values[p] = reinterpret_cast<uint8_t*>(values + page * kPageTokens * stride);
        }
        attend_chunk<KvFormat::F32>(s.block, source, start, s.scores);
        s.merge();
      }
      for (int r = 0; r < s.block.rows; ++r)
        finish_head(frame, instruction.one(Role::Y), first_row + t + r, head, columns,
                    s.out + r * stride, s.sum[r]);
    }
  }
}
