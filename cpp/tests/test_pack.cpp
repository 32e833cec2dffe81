// Packed weights hold what their file says, and 16-bit floats are read and rounded right.
#include <cmath>

#include "core/half.h"
#include "core/pack.h"
#include "tests/rig.h"

namespace overclock::testing {
namespace {

std::vector<float> row_of(const Machine& machine, int weight, int row) {
  const Weight& packed = machine.weights()[size_t(weight)];
  std::vector<float> values(size_t(packed.columns));
  unpack_row(packed, row, values.data());
  return values;
}

KERNEL_TEST(halves_have_their_values) {
  for (int bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    if ((half & 0x7c00) == 0x7c00) continue;
    check(half_to_float(half) == half_value(half), "half " + std::to_string(bits));
    check(float_to_half(half_to_float(half)) == half, "half back " + std::to_string(bits));
  }
  check(std::isinf(half_to_float(0x7c00)) && half_to_float(0xfc00) < 0, "infinities");
  check(std::isnan(half_to_float(0x7e01)), "not a number");
}

KERNEL_TEST(floats_round_to_the_nearest_half) {
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    const float value = std::ldexp(uniform(random, -2.0f, 2.0f), below(random, 42) - 26);
    check(float_to_half(value) == nearest_half(value), "half of " + std::to_string(value));
  }
  for (int half = 0; half < 0x7bff; half += 7) {
    const auto middle = static_cast<float>(
        (half_value(static_cast<uint16_t>(half)) + half_value(static_cast<uint16_t>(half + 1))) /
        2);
    check(float_to_half(middle) == half + half % 2, "tie at " + std::to_string(middle));
  }
  check(float_to_half(65519.0f) == 0x7bff && float_to_half(65520.0f) == 0x7c00, "overflow");
  check(float_to_half(1e-9f) == 0 && float_to_half(-1e-9f) == 0x8000, "underflow");
}

KERNEL_TEST(packed_rows_have_the_values_of_their_file) {
  Random random(2);
  for (Format format : kStoredFormats)
    for (int rows : {1, 15, 16, 31, 32, 33, 70}) {
      const int step = block_elements(format);
      for (int columns : {step, step == 1 ? 7 : 3 * step, step == 1 ? 300 : 9 * step}) {
        const Stored from = random_stored(random, format, rows, columns);
        Rig rig(tier, 1 + rows % 3);
        rig.weight(from);
        Matrix got = zeros(rows, columns);
        for (int row = 0; row < rows; ++row) {
          const std::vector<float> values = row_of(rig.machine(), 0, row);
          std::copy(values.begin(), values.end(), &got.at(row, 0));
        }
        check_near(
            got, [&](int row, int k) { return from.at(row, k); }, 2e-6,
            std::string("packing of ") + name_of(format));
      }
    }
}

KERNEL_TEST(floats_are_quantised_by_row) {
  Random random(3);
  for (Format format : {Format::F32, Format::F16, Format::BF16}) {
    Stored from = random_stored(random, format, 35, 71);
    std::fill(from.bytes.begin(), from.bytes.begin() + long(from.bytes.size() / 35), uint8_t{0});
    std::fill(from.values.begin(), from.values.begin() + 71, 0.0);
    Rig rig(tier);
    rig.weight(from, Format::I8);
    for (int row = 0; row < 35; ++row) {
      double most = 0;
      for (int k = 0; k < 71; ++k) most = std::max(most, std::fabs(from.at(row, k)));
      const std::vector<float> values = row_of(rig.machine(), 0, row);
      for (int k = 0; k < 71; ++k)
        check(std::fabs(values[size_t(k)] - from.at(row, k)) <= most / 127 * 0.50001,
              "quantised row");
    }
  }
}

}  // namespace
}  // namespace overclock::testing
