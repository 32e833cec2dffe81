// Activations to int8 in groups of 32 columns, each with scale max|x| / 127.

// Quantises the 32 values a, b as group g of a row.
inline void quantize_group(Vf a, Vf b, const QuantizedRow& row, int g) {
  const float most = vmost(vmax(vabs(a), vabs(b)));
  const float scale = most / 127.0f;
  const Vf steps = vset(most > 0.0f ? 127.0f / most : 0.0f);
  const Vi low = vround_int(vmul(a, steps));
  const Vi high = vround_int(vmul(b, steps));
  vstore_bytes(row.values() + kGroup * g, low);
  vstore_bytes(row.values() + kGroup * g + 16, high);
  // Both sums in one reduction: each fits 16 bits, and a negative low sum borrows from the high
  // one.
  const int32_t sums = visum(viadd(low, vileft16(high)));
  const int32_t low_sum = static_cast<int16_t>(sums);
  const int32_t high_sum = (sums - low_sum) / 65536;
  row.scales()[g] = scale;
  row.scaled_sums()[g] = scale * static_cast<float>(low_sum + high_sum);
  row.half_sums()[2 * g] = static_cast<int16_t>(low_sum);
  row.half_sums()[2 * g + 1] = static_cast<int16_t>(high_sum);
}

// The lanes of a row from column k on, zero past its end.
inline Vf vload_tail(const float* row, int k, int columns) {
  const int left = columns - k;
  if (left >= 16) return vload(row + k);
  return left > 0 ? vload_n(row + k, left) : vzero();
}

inline void vstore_tail(float* row, int k, int columns, Vf v) {
  const int left = columns - k;
  if (left >= 16)
    vstore(row + k, v);
  else if (left > 0)
    vstore_n(row + k, v, left);
}

// What rounding left of sixteen values of group g, from column k on.
inline Vf rounding_rest(Vf x, const QuantizedRow& row, int g, int k) {
  const Vf kept = vmul(vload_i8(row.values() + k), vset(row.scales()[g]));
  return vsub(x, kept);
}

inline void quantize_row(const float* x, const QuantizedRows& rows, int index) {
  const QuantizedRow row = rows.row(index);
  for (int g = 0; g < row.groups(); ++g) {
    const int k = kGroup * g;
    const Vf low = vload_tail(x, k, row.columns);
    const Vf high = vload_tail(x, k + 16, row.columns);
    quantize_group(low, high, row, g);
    if (rows.terms == 2)
      quantize_group(rounding_rest(low, row, g, k), rounding_rest(high, row, g, k + 16),
                     rows.rest(index), g);
  }
}

inline void quantize(const Frame& frame, const Instruction& instruction, const Lane& lane) {
  const FloatRows x = frame.floats(instruction.one(Role::X));
  const QuantizedRows y = frame.quantized_rows(instruction.one(Role::Y));
  const int rows = frame.rows(instruction.one(Role::Y));
  for (int begin, end; lane.claim(rows, lane.piece(rows), begin, end);)
    for (int row = begin; row < end; ++row) quantize_row(x.row(row), y, row);
}
