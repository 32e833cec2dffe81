// Opcodes that touch each row on its own: lookups, sums, activations, selection, pooling.

// Calls body(row) for every row of an operand, shared among the lanes.
template <class Body>
void over_rows(const Frame& frame, const Operand& operand, const Lane& lane, Body body) {
  const int rows = frame.rows(operand);
  for (int begin, end; lane.claim(rows, lane.piece(rows), begin, end);)
    for (int row = begin; row < end; ++row) body(row);
}

inline void embed(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& y = instruction.one(Role::Y);
  const FloatRows to = frame.floats(y);
  const Weight& table = frame.weight(instruction.one(Role::Table));
  const int32_t* ids = frame.batch.ids(frame.buffer(instruction.one(Role::Ids)).index);
  const Vf scale = vset(instruction.scale);
  over_rows(frame, y, lane, [&](int row) {
    const int id = (ids ? ids[row] : 0) + instruction.offset;
    unpack_row(table, id, to.row(row));
    if (instruction.scale == 1.0f) return;
    for (int k = 0; k < y.columns; k += 16)
      vstore_tail(to.row(row), k, y.columns, vmul(vload_tail(to.row(row), k, y.columns), scale));
  });
}

// The rows of an operand that may be one vector for all rows.
inline FloatRows rows_or_vector(const Frame& frame, const Operand& operand) {
  if (frame.buffer(operand).kind != Kind::Vector) return frame.floats(operand);
  return {const_cast<float*>(frame.vector(operand)), 0};
}

inline void add(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& y = instruction.one(Role::Y);
  const FloatRows a = frame.floats(instruction.one(Role::A));
  const FloatRows b = rows_or_vector(frame, instruction.one(Role::B));
  const FloatRows to = frame.floats(y);
  over_rows(frame, y, lane, [&](int row) {
    for (int k = 0; k < y.columns; k += 16)
      vstore_tail(to.row(row), k, y.columns,
                  vadd(vload_tail(a.row(row), k, y.columns), vload_tail(b.row(row), k, y.columns)));
  });
}

// Computes lanes(row, k) for a whole row and stores or quantises it.
template <class Lanes>
void write_row(const Frame& frame, const Operand& y, int row, Lanes lanes) {
  if (frame.quantized(y)) {
    const QuantizedRow to = frame.quantized_rows(y).row(row);
    for (int g = 0; g < to.groups(); ++g)
      quantize_group(lanes(kGroup * g), lanes(kGroup * g + 16), to, g);
    return;
  }
  float* to = frame.floats(y).row(row);
  for (int k = 0; k < y.columns; k += 16) vstore_tail(to, k, y.columns, lanes(k));
}

inline void activate(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& y = instruction.one(Role::Y);
  const FloatRows x = frame.floats(instruction.one(Role::X));
  over_rows(frame, y, lane, [&](int row) {
    write_row(frame, y, row, [&](int k) {
      return vactivate(instruction.activation, vload_tail(x.row(row), k, y.columns));
    });
  });
}

inline void gate(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& y = instruction.one(Role::Y);
  const FloatRows g = frame.floats(instruction.one(Role::Gate));
  const FloatRows up = frame.floats(instruction.one(Role::Up));
  over_rows(frame, y, lane, [&](int row) {
    write_row(frame, y, row, [&](int k) {
      return vmul(vactivate(instruction.activation, vload_tail(g.row(row), k, y.columns)),
                  vload_tail(up.row(row), k, y.columns));
    });
  });
}

inline void select(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& x = instruction.one(Role::X);
  const Operand& y = instruction.one(Role::Y);
  over_rows(frame, y, lane, [&](int row) {
    const int from = frame.batch.output_rows[row];
    if (frame.quantized(x)) {
      const QuantizedRows rows = frame.quantized_rows(x);
      __builtin_memcpy(frame.quantized_rows(y).row(row).base, rows.row(from).base, rows.stride);
    } else {
      __builtin_memcpy(frame.floats(y).row(row), frame.floats(x).row(from),
                       sizeof(float) * size_t(y.columns));
    }
  });
}

inline void pool(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& y = instruction.one(Role::Y);
  const FloatRows x = frame.floats(instruction.one(Role::X));
  const FloatRows to = frame.floats(y);
  over_rows(frame, y, lane, [&](int sequence) {
    const int first = frame.batch.starts[sequence];
    const int tokens = instruction.method == PoolMethod::Cls ? 1 : frame.batch.length(sequence);
    const Vf share = vset(1.0f / static_cast<float>(tokens));
    for (int k = 0; k < y.columns; k += 16) {
      Vf sum = vzero();
      for (int t = 0; t < tokens; ++t) sum = vadd(sum, vload_tail(x.row(first + t), k, y.columns));
      vstore_tail(to.row(sequence), k, y.columns, vmul(sum, share));
    }
  });
}

inline void normalize(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& y = instruction.one(Role::Y);
  const FloatRows x = frame.floats(instruction.one(Role::X));
  const FloatRows to = frame.floats(y);
  over_rows(frame, y, lane, [&](int row) {
    Vf squares = vzero();
    for (int k = 0; k < y.columns; k += 16) {
      const Vf v = vload_tail(x.row(row), k, y.columns);
      squares = vfma(v, v, squares);
    }
    const Vf factor = vset(1.0f / std::max(__builtin_sqrtf(vsum(squares)), 1e-12f));
    for (int k = 0; k < y.columns; k += 16)
      vstore_tail(to.row(row), k, y.columns, vmul(vload_tail(x.row(row), k, y.columns), factor));
  });
}
