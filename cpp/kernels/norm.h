// Normalisations of rows. Sums are taken lane by lane in one fixed order.

// Applies body(k, lanes) … to all lanes of a row; past the end lanes are zero.
template <class Body>
inline void over_lanes(int columns, Body body) {
  for (int k = 0; k < columns; k += 16) body(k);
}

inline void rms_normalize(const float* x, const float* w, int columns, float epsilon, float* y) {
  Vf squares = vzero();
  over_lanes(columns, [&](int k) {
    const Vf v = vload_tail(x, k, columns);
    squares = vfma(v, v, squares);
  });
  const float mean = vsum(squares) / static_cast<float>(columns);
  const Vf factor = vset(1.0f / __builtin_sqrtf(mean + epsilon));
  over_lanes(columns, [&](int k) {
    const Vf v = vmul(vmul(vload_tail(x, k, columns), factor), vload_tail(w, k, columns));
    vstore_tail(y, k, columns, v);
  });
}

inline void layer_normalize(const float* x, const float* w, const float* b, int columns,
                            float epsilon, float* y) {
  Vf total = vzero();
  over_lanes(columns, [&](int k) { total = vadd(total, vload_tail(x, k, columns)); });
  const Vf mean = vset(vsum(total) / static_cast<float>(columns));
  Vf squares = vzero();
  over_lanes(columns, [&](int k) {
    if (columns - k >= 16) {
      const Vf v = vsub(vload(x + k), mean);
      squares = vfma(v, v, squares);
      return;
    }
    float rest[16] = {};
    vstore_n(rest, vsub(vload_tail(x, k, columns), mean), columns - k);
    squares = vfma(vload(rest), vload(rest), squares);
  });
  const float variance = vsum(squares) / static_cast<float>(columns);
  const Vf factor = vset(1.0f / __builtin_sqrtf(variance + epsilon));
  over_lanes(columns, [&](int k) {
    const Vf v = vmul(vsub(vload_tail(x, k, columns), mean), factor);
    vstore_tail(y, k, columns, vfma(v, vload_tail(w, k, columns), vload_tail(b, k, columns)));
  });
}

// Runs normalize(x, y) for each row, and quantises y where the instruction asks for it.
template <class Normalize>
void normalize_rows(const Frame& frame, const Instruction& instruction, const Lane& lane,
                    Normalize normalize) {
  const Operand& operand = instruction.one(Role::X);
  const FloatRows x = frame.floats(operand);
  const bool has_y = instruction.has(Role::Y);
  const bool has_q = instruction.has(Role::Quantized);
  const int rows = frame.rows(operand);
  float* room = reinterpret_cast<float*>(lane.scratch);
  for (int begin, end; lane.claim(rows, lane.piece(rows), begin, end);)
    for (int row = begin; row < end; ++row) {
      float* y = has_y ? frame.floats(instruction.one(Role::Y)).row(row) : room;
      normalize(x.row(row), operand.columns, y);
      if (has_q) quantize_row(y, frame.quantized_rows(instruction.one(Role::Quantized)), row);
    }
}

inline void rms_norm(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const float* w = frame.vector(instruction.one(Role::W));
  normalize_rows(frame, instruction, lane, [&](const float* x, int columns, float* y) {
    const int part = columns / instruction.heads;
    for (int head = 0; head < instruction.heads; ++head)
      rms_normalize(x + head * part, w, part, instruction.epsilon, y + head * part);
  });
}

inline void layer_norm(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const float* w = frame.vector(instruction.one(Role::W));
  const float* b = frame.vector(instruction.one(Role::B));
  normalize_rows(frame, instruction, lane, [&](const float* x, int columns, float* y) {
    layer_normalize(x, w, b, columns, instruction.epsilon, y);
  });
}
