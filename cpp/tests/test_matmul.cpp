// Matrix products in every format, with everything that can be fused to them.
#include <cmath>

#include "tests/rig.h"
#include "tests/wanted.h"

namespace overclock::testing {
namespace {

constexpr int kRows = 20;

struct Sum {
  double value;
  double size;  // sum of the products' magnitudes, which rounding errors go by
};

Sum product(const Matrix& x, int row, const Stored& w, int column) {
  Sum sum{0, 0};
  for (int k = 0; k < x.columns; ++k) {
    const double term = x.at(row, k) * w.at(column, k);
    sum.value += term;
    sum.size += std::fabs(term);
  }
  return sum;
}

// A weight as it is held: quantised by row if that is asked for.
struct Held {
  Stored stored;
  Format format;

  void round_to_int8() {
    for (int row = 0; row < stored.rows; ++row) {
      double most = 0;
      for (int k = 0; k < stored.columns; ++k) most = std::max(most, std::fabs(stored.at(row, k)));
      const float scale = static_cast<float>(most) / 127.0f;
      for (int k = 0; k < stored.columns; ++k) {
        double& value = stored.values[size_t(row) * size_t(stored.columns) + size_t(k)];
        value = scale > 0 ? std::nearbyint(static_cast<float>(value) / scale) * double(scale) : 0.0;
      }
    }
  }
};

Held random_weight(Random& random, Format format, int rows, int columns) {
  if (format != Format::I8) return {random_stored(random, format, rows, columns), format};
  constexpr Format from[] = {Format::F32, Format::F16, Format::BF16};
  Held made{random_stored(random, from[below(random, 3)], rows, columns), format};
  made.round_to_int8();
  return made;
}

// One instruction with all that is wanted of it, and what it should give.
struct Case {
  Matrix x;
  std::vector<Held> weights{};
  std::vector<float> bias{};  // of all columns, or none
  Activation activation = Activation::None;
  Matrix residual{};  // or no rows
  int terms = 0;      // of int8 activations, 0 for f32
  bool int8_out = false;

  int columns() const {
    int total = 0;
    for (const Held& weight : weights) total += weight.stored.rows;
    return total;
  }
  Sum wanted(const Matrix& seen, int row, int column) const {
    int at = column;
    size_t which = 0;
    while (at >= weights[which].stored.rows) at -= weights[which++].stored.rows;
    Sum sum = product(seen, row, weights[which].stored, at);
    if (!bias.empty()) sum.value += bias[size_t(column)];
    sum.value = activated(activation, sum.value);
    if (residual.rows > 0) sum.value += residual.at(row, column);
    return sum;
  }
  Matrix run(const std::string& tier, int threads, int rows) const;
};

Matrix Case::run(const std::string& tier, int threads, int rows) const {
  Rig rig(tier, threads);
  Operand from = rig.given(x);
  if (terms > 0) from = rig.quantized(from, terms);
  Instruction instruction = make(Op::Matmul, {{Role::X, {from}}});
  int column = 0;
  for (const Held& weight : weights) {
    instruction.operands[size_t(Role::W)].push_back(rig.weight(weight.stored, weight.format));
    const auto first = bias.begin() + column;
    if (!bias.empty())
      instruction.operands[size_t(Role::Bias)].push_back(
          rig.vector({first, first + weight.stored.rows}));
    column += weight.stored.rows;
  }
  const Element element = int8_out ? Element::I8 : Element::F32;
  const Operand y = rig.activation(columns(), Rows::Tokens, element);
  instruction.operands[size_t(Role::Y)] = {y};
  if (residual.rows > 0) {  // in place
    rig.give(residual, y);
    instruction.operands[size_t(Role::Residual)] = {y};
  }
  instruction.activation = activation;
  rig.add(instruction);
  return rig.run(rows, int8_out ? rig.dequantized(y) : y);
}

// Values, and that neither threads nor the number of rows change a bit of them.
void check_case(const Case& given, const std::string& tier, const std::string& what) {
  const Matrix seen = given.terms > 0 ? through_int8(given.x, given.terms) : given.x;
  const Matrix all = given.run(tier, 1, given.x.rows);
  Matrix wanted = zeros(given.x.rows, given.columns());
  Matrix size = wanted;
  for (int row = 0; row < wanted.rows; ++row)
    for (int column = 0; column < wanted.columns; ++column) {
      const Sum sum = given.wanted(seen, row, column);
      wanted.at(row, column) = static_cast<float>(sum.value);
      size.at(row, column) = static_cast<float>(sum.size);
    }
  const auto rounding = [&](int row, int column) {
    const double step = given.int8_out ? 0.51 * step_of(wanted, row, column) : 0.0;
    return 2e-5 * size.at(row, column) + 4e-6 + step;
  };
  check_near(all, [&](int row, int column) { return wanted.at(row, column); }, rounding, what);
  for (int rows = 1; rows < given.x.rows; rows += rows < kRows ? 1 : 97)
    check_same_bits(given.run(tier, 1 + rows % 3, rows), all, what + " of fewer rows");
}

std::vector<Format> all_formats() {
  std::vector<Format> formats = kStoredFormats;
  formats.push_back(Format::I8);
  return formats;
}

int some_columns(Format format) {
  return is_float_format(format) ? 301 : format == Format::I8 ? 50 : 3 * block_elements(format);
}

KERNEL_TEST(products_of_every_format) {
  Random random(4);
  for (Format format : all_formats())
    for (int terms : {0, 1, 2}) {
      if (terms > 0 && is_float_format(format)) continue;
      const int columns = some_columns(format);
      Case given{.x = random_matrix(random, kRows, columns), .terms = terms};
      given.weights.push_back(random_weight(random, format, 67, columns));
      check_case(given, tier, std::to_string(terms) + " terms by " + name_of(format));
    }
}

KERNEL_TEST(products_of_every_width) {
  Random random(5);
  for (Format format : {Format::F32, Format::Q4_1, Format::Q8_0, Format::I8})
    for (int width : {1, 2, 15, 16, 17, 31, 33, 48, 64, 65})
      for (int terms : {0, 1, 2}) {
        if (terms > 0 && is_float_format(format)) continue;
        Case given{.x = random_matrix(random, 5, 64), .terms = terms};
        given.weights.push_back(random_weight(random, format, width, 64));
        check_case(given, tier, name_of(format) + (" width " + std::to_string(width)));
      }
}

KERNEL_TEST(long_and_tall_products) {
  Random random(6);
  for (Format format : {Format::F16, Format::Q4_0, Format::Q6_K, Format::I8})
    for (int terms : {0, 1, 2}) {
      if (terms > 0 && is_float_format(format)) continue;
      Case wide{.x = random_matrix(random, 9, 1280), .terms = terms};
      wide.weights.push_back(random_weight(random, format, 40, 1280));
      check_case(wide, tier, std::string("1280 columns of ") + name_of(format));
      Case tall{.x = random_matrix(random, 300, 256), .terms = terms};
      tall.weights.push_back(random_weight(random, format, 33, 256));
      check_case(tall, tier, std::string("300 rows of ") + name_of(format));
    }
}

KERNEL_TEST(weights_side_by_side_bias_activation_residual) {
  Random random(7);
  constexpr Activation functions[] = {Activation::None,     Activation::Silu, Activation::Gelu,
                                      Activation::GeluTanh, Activation::Relu, Activation::Tanh};
  for (Activation function : functions)
    for (int terms : {0, 1, 2})
      for (bool residual : {false, true}) {
        Case given{.x = random_matrix(random, 7, 256), .activation = function, .terms = terms};
        given.weights = {random_weight(random, Format::Q4_K, 45, 256),
                         random_weight(random, Format::I8, 3, 256),
                         random_weight(random, Format::Q8_0, 64, 256)};
        given.bias = random_matrix(random, 1, given.columns()).values;
        if (residual) given.residual = random_matrix(random, 7, given.columns());
        check_case(given, tier, std::string("side by side with ") + name_of(function));
      }
}

KERNEL_TEST(quantised_output_of_products) {
  Random random(8);
  for (Format format : {Format::F32, Format::Q5_1, Format::I8})
    for (int last : {1, 20, 32, 40}) {
      Case given{.x = random_matrix(random, 6, 96), .activation = Activation::Gelu};
      given.terms = is_float_format(format) ? 0 : 1 + last % 2;
      given.int8_out = true;
      given.weights = {random_weight(random, format, 64, 96),
                       random_weight(random, format, last, 96)};
      given.bias = random_matrix(random, 1, given.columns()).values;
      check_case(given, tier, std::string("int8 output by ") + name_of(format));
    }
}

Matrix run_gated(const std::string& tier, int threads, int rows, const Matrix& x, const Held& gate,
                 const Held& up, Activation function, int terms, bool int8_out) {
  Rig rig(tier, threads);
  Operand from = rig.given(x);
  if (terms > 0) from = rig.quantized(from, terms);
  const Element element = int8_out ? Element::I8 : Element::F32;
  const Operand y = rig.activation(gate.stored.rows, Rows::Tokens, element);
  Instruction instruction =
      make(Op::GatedMatmul, {{Role::X, {from}},
                             {Role::Gate, {rig.weight(gate.stored, gate.format)}},
                             {Role::Up, {rig.weight(up.stored, up.format)}},
                             {Role::Y, {y}}});
  instruction.activation = function;
  rig.add(instruction);
  return rig.run(rows, int8_out ? rig.dequantized(y) : y);
}

KERNEL_TEST(gated_products) {
  Random random(9);
  for (Format format : {Format::F32, Format::BF16, Format::Q4_1, Format::Q3_K, Format::I8})
    for (int mode = 0; mode < 6; ++mode) {
      const int terms = mode % 3;
      const bool int8_out = mode / 3;
      if (terms > 0 && is_float_format(format)) continue;
      const Matrix x = random_matrix(random, kRows, 256);
      const Held gate = random_weight(random, format, 83, 256);
      const Held up = random_weight(random, int8_out ? format : Format::I8, 83, 256);
      const auto run = [&](int threads, int rows) {
        return run_gated(tier, threads, rows, x, gate, up, Activation::Silu, terms, int8_out);
      };
      const Matrix all = run(1, kRows);
      const Matrix seen = terms > 0 ? through_int8(x, terms) : x;
      Matrix wanted = zeros(kRows, 83);
      Matrix size = wanted;
      for (int row = 0; row < kRows; ++row)
        for (int column = 0; column < 83; ++column) {
          const Sum g = product(seen, row, gate.stored, column);
          const Sum u = product(seen, row, up.stored, column);
          wanted.at(row, column) =
              static_cast<float>(activated(Activation::Silu, g.value) * u.value);
          size.at(row, column) =
              static_cast<float>(g.size * std::fabs(u.value) + std::fabs(g.value) * u.size);
        }
      const auto rounding = [&](int row, int column) {
        const double step = int8_out ? 0.51 * step_of(wanted, row, column) : 0.0;
        return 2e-5 * size.at(row, column) + 1e-5 + step;
      };
      check_near(
          all, [&](int row, int column) { return wanted.at(row, column); }, rounding,
          std::string("gated product of ") + name_of(format));
      for (int rows = 1; rows < kRows; ++rows)
        check_same_bits(run(1 + rows % 3, rows), all, "gated product of fewer rows");
    }
}

}  // namespace
}  // namespace overclock::testing
