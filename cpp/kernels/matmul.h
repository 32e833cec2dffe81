// Matrix products with what is fused to them: bias, activation, gate, residual, quantisation.

// What happens to a finished tile of 32 columns before it leaves for memory.
struct Finish {
  int first_column = 0;                // in y
  int valid = 32;                      // columns that exist
  const float* scales = nullptr;       // of the columns (I8 weights), or none
  const float* gate_scales = nullptr;  // of the gate's columns
  const float* bias = nullptr;         // of the columns, or none
  Activation activation = Activation::None;
  FloatRows residual{nullptr, 0};
  FloatRows y{nullptr, 0};
  QuantizedRows quantized{nullptr, 0, 0};
};

inline Vf scaled(Vf v, const float* scales, int p) {
  return scales ? vmul(v, vload(scales + 16 * p)) : v;
}

inline Vf finish_lanes(const Finish& f, int row, int p, Vf v, const float* gate) {
  const int left = f.valid - 16 * p;
  v = scaled(v, f.scales, p);
  if (f.bias) v = vadd(v, vload_tail(f.bias, 16 * p, f.valid));
  if (gate)
    v = vmul(vactivate(f.activation, scaled(vload(gate + 16 * p), f.gate_scales, p)), v);
  else
    v = vactivate(f.activation, v);
  if (f.residual.data && left > 0)
    v = vadd(v, vload_tail(f.residual.row(row) + f.first_column, 16 * p, f.valid));
  return v;
}

// Rows first_row … of a tile; `gate` is the gate's tile for gated products.
inline void finish_rows(const Finish& f, int first_row, int rows, const float* c,
                        const float* gate) {
  for (int r = 0; r < rows; ++r) {
    const int row = first_row + r;
    const float* gate_row = gate ? gate + 32 * r : nullptr;
    const Vf low = finish_lanes(f, row, 0, vload(c + 32 * r), gate_row);
    const Vf high = finish_lanes(f, row, 1, vload(c + 32 * r + 16), gate_row);
    if (f.quantized.data) {
      // Columns past the end hold zeros: padding rows of packed weights are zero.
      quantize_group(low, high, f.quantized.row(row), f.first_column / kGroup);
    } else {
      float* y = f.y.row(row) + f.first_column;
      vstore_tail(y, 0, f.valid, low);
      vstore_tail(y, 16, f.valid, high);
    }
  }
}

// Where a lane keeps what it works on; laid out once over its scratch memory.
struct MatmulScratch {
  uint8_t* bytes;  // unpacked panel: kBlockGroups KiB, or kFloatBlock x 32 floats
  float* d;
  float* m;
  float* c;     // kBlockRows x 32
  float* gate;  // kBlockRows x 32

  explicit MatmulScratch(uint8_t* at)
      : bytes(at),
        d(reinterpret_cast<float*>(at + 32 * 1024)),
        m(d + 2 * 32 * kBlockGroups),
        c(m + 2 * 32 * kBlockGroups),
        gate(c + 32 * kBlockRows) {}
};

// One panel of a weight.
struct Panel {
  const Weight* weight;
  int index;
};

// The walk through `next`, spread over the groups and passes of the tiles before it.
inline Ahead ahead_of(const Panel& next, int groups, int passes) {
  if (!next.weight) return {};
  const uint8_t* const at = next.weight->panel(next.index);
  const int lines = static_cast<int>(next.weight->panel_bytes() / 64);
  return {at, at + 64 * size_t(lines), lines / (groups * passes) + 1};
}

// Panel `at` times rows first_row … ; calls done(row, rows, tile) for every finished tile, whose
// rows are 32 floats apart. With `keep` the whole block stays in c. Panel `next` is read ahead.
template <class Done>
void product_i8(const Panel& at, const Panel& next, const QuantizedRows& x, int first_row, int rows,
                const MatmulScratch& s, float* c, bool keep, Done done) {
  const Weight& weight = *at.weight;
  const int groups = weight.groups();
  const ProductI8& product = product_i8_of(weight.format);
  if (rows <= product.direct_rows) {
    const int passes = (rows + kFewRows - 1) / kFewRows;
    Ahead ahead = ahead_of(next, groups, passes);
    for (int row = 0, left = passes; row < rows; --left) {
      const int n = (rows - row + left - 1) / left;
      float* to = c + (keep ? 32 * row : 0);
      product.few[size_t(n - 1)](weight, at.index, x, first_row + row, to, passes == 1, ahead);
      done(first_row + row, n, to);
      row += n;
    }
    return;
  }
  const Expanded expanded{s.bytes, s.d, s.m};
  Ahead ahead = ahead_of(next, groups, (rows + kTileRows - 1) / kTileRows);
  keep = keep || groups > kBlockGroups;
  for (int g = 0; g < groups; g += kBlockGroups) {
    const int count = groups - g < kBlockGroups ? groups - g : kBlockGroups;
    product.expand(weight, at.index, g, count, expanded);
    for (int row = 0; row < rows; row += kTileRows) {
      const int n = rows - row < kTileRows ? rows - row : kTileRows;
      float* to = c + (keep ? 32 * row : 0);
      product.tiles[size_t(n - 1)](expanded, x, first_row + row, g, count, to, g == 0, ahead);
      if (g + count == groups) done(first_row + row, n, to);
    }
  }
}

// The same for activations of two terms: twice the rows, then the sums of the pairs.
template <class Done>
void product_i8x2(const Panel& at, const Panel& next, const QuantizedRows& x, int first_row,
                  int rows, const MatmulScratch& s, float* c, Done done) {
  product_i8(at, next, x.apart(), 2 * first_row, 2 * rows, s, c, true,
             [](int, int, const float*) {});
  for (int row = 0; row < rows; ++row)
    for (int i = 0; i < 32; i += 16)
      vstore(c + 32 * row + i, vadd(vload(c + 64 * row + i), vload(c + 64 * row + 32 + i)));
  done(first_row, rows, c);
}

// The same for f32 activations.
template <class Done>
void product_f32(const Weight& weight, int panel, const FloatRows& x, int first_row, int rows,
                 const MatmulScratch& s, float* c, bool keep, Done done) {
  const bool direct =
      weight.format == Format::F32 || (!layout_of(weight.format).quantized() && rows <= kFloatRows);
  const auto& tiles = float_tiles_of(direct ? weight.format : Format::F32);
  const size_t step = size_t(float_bytes(weight.format));
  keep = keep || weight.columns > kFloatBlock;
  for (int k = 0; k < weight.columns; k += kFloatBlock) {
    const int count = weight.columns - k < kFloatBlock ? weight.columns - k : kFloatBlock;
    if (!direct) to_floats(weight, panel, k, count, reinterpret_cast<float*>(s.bytes));
    const uint8_t* w = direct ? weight.panel(panel) + size_t(k) * step : s.bytes;
    for (int row = 0; row < rows; row += kFloatRows) {
      const int n = rows - row < kFloatRows ? rows - row : kFloatRows;
      float* at = c + (keep ? 32 * row : 0);
      tiles[size_t(n - 1)](w, x.row(first_row + row) + k, x.stride, count, at, k == 0);
      if (k + count == weight.columns) done(first_row + row, n, at);
    }
  }
}

// Picks the product by the activations' element type.
template <class Done>
void product(const Frame& frame, const Operand& x, const Panel& at, const Panel& next,
             int first_row, int rows, const MatmulScratch& s, float* c, bool keep, Done done) {
  if (!frame.quantized(x))
    product_f32(*at.weight, at.index, frame.floats(x), first_row, rows, s, c, keep, done);
  else if (frame.quantized_rows(x).terms == 1)
    product_i8(at, next, frame.quantized_rows(x), first_row, rows, s, c, keep, done);
  else
    product_i8x2(at, next, frame.quantized_rows(x), first_row, rows, s, c, done);
}

// I8 weights times int8 activations leave the column scale to the end.
inline const float* column_scales(const Frame& frame, const Operand& x, const Weight& weight,
                                  int panel) {
  if (weight.format != Format::I8 || !frame.quantized(x)) return nullptr;
  return reinterpret_cast<const float*>(weight.panel(panel) + weight.columns_at());
}

inline void set_output(const Frame& frame, const Instruction& instruction, Finish& finish) {
  const Operand& y = instruction.one(Role::Y);
  if (frame.quantized(y))
    finish.quantized = frame.quantized_rows(y);
  else
    finish.y = frame.floats(y);
  if (instruction.has(Role::Residual))
    finish.residual = frame.floats(instruction.one(Role::Residual));
}

// Rows of the tiles for each row of x.
inline int terms_of(const Frame& frame, const Operand& x) {
  return frame.quantized(x) ? frame.quantized_rows(x).terms : 1;
}

// Claims blocks of rows x panels, one by one, and calls piece(panel, first_row, rows).
template <class Piece>
void over_pieces(const Lane& lane, int rows, int panels, int terms, Piece piece) {
  const int block_rows = kBlockRows / terms;
  const int blocks = (rows + block_rows - 1) / block_rows;
  const int total = blocks * panels;
  for (int unit, end; lane.claim(total, 1, unit, end);) {
    const int first_row = unit / panels * block_rows;
    piece(unit % panels, first_row, rows - first_row < block_rows ? rows - first_row : block_rows);
  }
}

// Which of the weights laid side by side a panel belongs to.
struct Segment {
  int index;
  int panel;
  int first_column;
};

inline Segment find_segment(const Frame& frame, const std::vector<Operand>& weights, int panel) {
  Segment at{0, panel, 0};
  for (const Operand& operand : weights) {
    const Weight& weight = frame.weight(operand);
    const int panels = weight.panels();
    if (at.panel < panels) break;
    at.panel -= panels;
    at.first_column += weight.rows;
    ++at.index;
  }
  return at;
}

inline void matmul(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& x = instruction.one(Role::X);
  const std::vector<Operand>& weights = instruction.all(Role::W);
  const std::vector<Operand>& biases = instruction.all(Role::Bias);
  const MatmulScratch scratch(lane.scratch);
  int panels = 0;
  for (const Operand& operand : weights) panels += frame.weight(operand).panels();
  over_pieces(lane, frame.rows(instruction.one(Role::Y)), panels, terms_of(frame, x),
              [&](int unit, int first_row, int rows) {
                const Segment segment = find_segment(frame, weights, unit);
                const Weight& weight = frame.weight(weights[size_t(segment.index)]);
                Finish finish;
                finish.first_column = segment.first_column + 32 * segment.panel;
                finish.valid = weight.rows - 32 * segment.panel;
                if (finish.valid > 32) finish.valid = 32;
                finish.scales = column_scales(frame, x, weight, segment.panel);
                if (!biases.empty())
                  finish.bias = frame.vector(biases[size_t(segment.index)]) + 32 * segment.panel;
                finish.activation = instruction.activation;
                set_output(frame, instruction, finish);
                Panel next{nullptr, 0};
                if (unit + 1 < panels) {
                  const Segment after = find_segment(frame, weights, unit + 1);
                  next = {&frame.weight(weights[size_t(after.index)]), after.panel};
                }
                product(frame, x, {&weight, segment.panel}, next, first_row, rows, scratch,
                        scratch.c, false, [&](int row, int n, const float* c) {
                          finish_rows(finish, row, n, c, nullptr);
                        });
              });
}

inline void gated_matmul(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const Operand& x = instruction.one(Role::X);
  const Weight& gate = frame.weight(instruction.one(Role::Gate));
  const Weight& up = frame.weight(instruction.one(Role::Up));
  const MatmulScratch scratch(lane.scratch);
  over_pieces(lane, frame.rows(instruction.one(Role::Y)), gate.panels(), terms_of(frame, x),
              [&](int panel, int first_row, int rows) {
                Finish finish;
                finish.first_column = 32 * panel;
                finish.valid = gate.rows - 32 * panel < 32 ? gate.rows - 32 * panel : 32;
                finish.scales = column_scales(frame, x, up, panel);
                finish.gate_scales = column_scales(frame, x, gate, panel);
                finish.activation = instruction.activation;
                set_output(frame, instruction, finish);
                const Panel at{&up, panel};
                const Panel next{panel + 1 < gate.panels() ? &gate : nullptr, panel + 1};
                product(frame, x, {&gate, panel}, at, first_row, rows, scratch, scratch.gate, true,
                        [](int, int, const float*) {});
                product(frame, x, at, next, first_row, rows, scratch, scratch.c, false,
                        [&](int row, int n, const float* c) {
                          finish_rows(finish, row, n, c, scratch.gate + 32 * (row - first_row));
                        });
              });
}
