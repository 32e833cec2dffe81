// Opcodes that work row by row: lookups, norms, activations, quantisation, selection, pooling.
#include <cmath>

#include "tests/rig.h"
#include "tests/wanted.h"

namespace overclock::testing {
namespace {

constexpr int kRows = 9;
constexpr int kWidths[] = {1, 15, 16, 17, 32, 33, 100};

Values values_of(const Matrix& matrix) {
  return [&matrix](int row, int column) { return matrix.at(row, column); };
}

KERNEL_TEST(embed_looks_rows_up) {
  Random random(11);
  for (Format format : kStoredFormats) {
    const int columns = is_float_format(format) ? 33 : block_elements(format);
    const Stored table = random_stored(random, format, 40, columns);
    for (float scale : {1.0f, 3.5f}) {
      Rig rig(tier, 2);
      const Operand y = rig.activation(columns);
      Instruction embed =
          make(Op::Embed,
               {{Role::Ids, {rig.input(0)}}, {Role::Table, {rig.weight(table)}}, {Role::Y, {y}}});
      embed.scale = scale;
      embed.offset = 2;
      rig.add(embed);
      check_near(
          rig.run(38, y), [&](int row, int k) { return scale * table.at(row + 2, k); }, 2e-6,
          std::string("embed ") + name_of(format));
    }
  }
}

KERNEL_TEST(embed_takes_positions_and_types) {
  Random random(12);
  const Matrix table = random_matrix(random, 20, 8);
  for (int input : {1, 2})
    for (bool types : {false, true}) {
      Rig rig(tier);
      const Operand y = rig.activation(8);
      rig.add(Op::Embed, {{Role::Ids, {rig.input(input)}},
                          {Role::Table, {rig.weight(stored(table))}},
                          {Role::Y, {y}}});
      Feed feed;
      feed.lengths = {2, 3};
      feed.contexts = {4, 0};
      feed.page_columns = 1;
      feed.pages = {1, 0};
      rig.cache(1, 8, 2);  // only a program with KV pages has contexts
      if (types) feed.token_types = {1, 0, 5, 19, 7};
      const std::vector<int> positions = {4, 5, 0, 1, 2};
      const std::vector<int> kinds = types ? std::vector<int>{1, 0, 5, 19, 7} : std::vector<int>(5);
      const std::vector<int>& wanted = input == 1 ? positions : kinds;
      check_near(
          rig.run(feed, y), [&](int row, int k) { return table.at(wanted[size_t(row)], k); }, 0.0,
          "embed positions or types");
    }
}

KERNEL_TEST(sums) {
  Random random(13);
  for (int width : kWidths) {
    const Matrix a = random_matrix(random, kRows, width);
    const Matrix b = random_matrix(random, kRows, width);
    for (bool vector : {false, true}) {
      Rig rig(tier, 3);
      const Operand left = rig.given(a);
      const std::vector<float> first(b.values.begin(), b.values.begin() + width);
      const Operand right = vector ? rig.vector(first) : rig.given(b);
      rig.add(Op::Add, {{Role::A, {left}}, {Role::B, {right}}, {Role::Y, {left}}});
      check_near(
          rig.run(kRows, left),
          [&](int row, int k) { return a.at(row, k) + b.at(vector ? 0 : row, k); }, 1e-6, "sum");
    }
  }
}

// A norm with both outputs, or with one; int8 in one term or two.
void check_norm(const std::string& tier, const Instruction& norm, Rig& rig, int width,
                const Matrix& wanted, const std::string& what) {
  for (int outputs : {1, 2, 3})
    for (int terms : {1, 2}) {
      Instruction instruction = norm;
      const Operand y = rig.activation(width);
      const Operand q = rig.activation(width, Rows::Tokens, static_cast<Element>(terms));
      if (outputs & 1) instruction.operands[size_t(Role::Y)] = {y};
      if (outputs & 2) instruction.operands[size_t(Role::Quantized)] = {q};
      rig.add(instruction);
      if (outputs & 1) check_near(rig.run(kRows, y), values_of(wanted), 1e-5, what + tier);
      if (!(outputs & 2)) continue;
      const auto rounding = [&](int row, int k) {
        return 0.51 * step_of(wanted, row, k) / (terms == 1 ? 1 : 254) + 1e-5;
      };
      check_near(rig.run(kRows, rig.dequantized(q)), values_of(wanted), rounding, what + " int8");
    }
}

KERNEL_TEST(rms_norms) {
  Random random(14);
  for (int width : kWidths)
    for (int heads : {1, 3}) {
      const Matrix x = random_matrix(random, kRows, heads * width);
      const std::vector<float> w = random_matrix(random, 1, width).values;
      Matrix wanted = x;
      for (int row = 0; row < kRows; ++row)
        for (int k = 0; k < x.columns; ++k)
          wanted.at(row, k) = static_cast<float>(
              rms_normed(x, row, k / width * width, width, k % width, 1e-5) * w[size_t(k % width)]);
      Rig rig(tier, 2);
      Instruction norm = make(Op::RmsNorm, {{Role::X, {rig.given(x)}}, {Role::W, {rig.vector(w)}}});
      norm.heads = heads;
      norm.epsilon = 1e-5f;
      check_norm(tier, norm, rig, x.columns, wanted, "rms norm ");
    }
}

KERNEL_TEST(layer_norms) {
  Random random(15);
  for (int width : kWidths) {
    const Matrix x = random_matrix(random, kRows, width);
    const std::vector<float> w = random_matrix(random, 1, width).values;
    const std::vector<float> b = random_matrix(random, 1, width).values;
    Matrix wanted = x;
    for (int row = 0; row < kRows; ++row)
      for (int k = 0; k < width; ++k)
        wanted.at(row, k) =
            static_cast<float>(layer_normed(x, row, k, 1e-5) * w[size_t(k)] + b[size_t(k)]);
    Rig rig(tier, 2);
    Instruction norm =
        make(Op::LayerNorm,
             {{Role::X, {rig.given(x)}}, {Role::W, {rig.vector(w)}}, {Role::B, {rig.vector(b)}}});
    norm.epsilon = 1e-5f;
    check_norm(tier, norm, rig, width, wanted, "layer norm ");
  }
}

KERNEL_TEST(quantised_rows) {
  Random random(16);
  for (int width : kWidths) {
    Matrix x = random_matrix(random, kRows, width);
    for (int k = 0; k < width; ++k) x.at(3, k) = 0.0f;
    for (int k = 0; k < width; ++k) x.at(4, k) *= 1e-20f;
    for (int terms : {1, 2}) {
      const Matrix wanted = through_int8(x, terms);
      Rig rig(tier, 2);
      const Operand y = rig.dequantized(rig.quantized(rig.given(x), terms));
      check_near(rig.run(kRows, y), values_of(wanted), 1e-6, "int8 rows");
    }
  }
}

KERNEL_TEST(activations_and_gates) {
  Random random(17);
  constexpr Activation functions[] = {Activation::None,     Activation::Silu, Activation::Gelu,
                                      Activation::GeluTanh, Activation::Relu, Activation::Tanh};
  for (Activation function : functions)
    for (int width : kWidths)
      for (bool gated : {false, true}) {
        Matrix x = random_matrix(random, kRows, width);
        for (float& value : x.values) value *= 12.0f;
        x.at(0, 0) = 200.0f;
        x.at(1, 0) = -200.0f;
        const Matrix up = random_matrix(random, kRows, width);
        Matrix wanted = x;
        for (int row = 0; row < kRows; ++row)
          for (int k = 0; k < width; ++k)
            wanted.at(row, k) = static_cast<float>(activated(function, x.at(row, k)) *
                                                   (gated ? up.at(row, k) : 1.0));
        for (Element element : {Element::F32, Element::I8}) {
          Rig rig(tier, 2);
          const Operand y = rig.activation(width, Rows::Tokens, element);
          Instruction instruction =
              gated ? make(Op::Gate, {{Role::Gate, {rig.given(x)}}, {Role::Up, {rig.given(up)}}})
                    : make(Op::Activate, {{Role::X, {rig.given(x)}}});
          instruction.operands[size_t(Role::Y)] = {y};
          instruction.activation = function;
          rig.add(instruction);
          const std::string what = std::string("activation ") + name_of(function);
          if (element == Element::F32)
            check_near(
                rig.run(kRows, y), values_of(wanted),
                [&](int row, int k) { return 3e-6 * (1 + std::fabs(x.at(row, k))); }, what);
          else
            check_near(
                rig.run(kRows, rig.dequantized(y)), values_of(wanted),
                [&](int row, int k) { return 0.51 * step_of(wanted, row, k) + 4e-5; }, what);
        }
      }
}

KERNEL_TEST(selections) {
  Random random(18);
  for (int width : kWidths) {
    const Matrix x = random_matrix(random, kRows, width);
    Feed feed = one_sequence(kRows);
    feed.output_rows = {8, 0, 0, 5};
    for (int terms : {0, 1, 2}) {
      const bool int8 = terms > 0;
      const Matrix seen = int8 ? through_int8(x, terms) : x;
      Rig rig(tier, 2);
      const Operand from = int8 ? rig.quantized(rig.given(x), terms) : rig.given(x);
      const Operand y = rig.activation(width, Rows::Selected, static_cast<Element>(terms));
      rig.add(Op::Select, {{Role::X, {from}}, {Role::Y, {y}}});
      check_near(
          rig.run(feed, int8 ? rig.dequantized(y) : y),
          [&](int row, int k) { return seen.at(feed.output_rows[size_t(row)], k); },
          int8 ? 1e-6 : 0.0, "selection");
    }
    feed.output_rows.clear();
    Rig rig(tier);
    const Operand y = rig.activation(width, Rows::Selected);
    rig.add(Op::Select, {{Role::X, {rig.given(x)}}, {Role::Y, {y}}});
    check(rig.run(feed, y).rows == 0, "a selection of nothing");
  }
}

KERNEL_TEST(pools_and_unit_vectors) {
  Random random(19);
  Feed feed;
  feed.lengths = {1, 5, 3};
  for (int width : kWidths)
    for (PoolMethod method : {PoolMethod::Mean, PoolMethod::Cls}) {
      const Matrix x = random_matrix(random, kRows, width);
      Matrix pooled = zeros(3, width);
      int row = 0;
      for (int s = 0; s < 3; ++s)
        for (int i = 0; i < feed.lengths[size_t(s)]; ++i, ++row)
          for (int k = 0; k < width; ++k) {
            if (method == PoolMethod::Mean)
              pooled.at(s, k) += x.at(row, k) / static_cast<float>(feed.lengths[size_t(s)]);
            else if (i == 0)
              pooled.at(s, k) = x.at(row, k);
          }
      Rig rig(tier, 2);
      const Operand y = rig.activation(width, Rows::Sequences);
      Instruction pool = make(Op::Pool, {{Role::X, {rig.given(x)}}, {Role::Y, {y}}});
      pool.method = method;
      rig.add(pool);
      check_near(rig.run(feed, y), values_of(pooled), 1e-6, "pool");
      const Operand unit = rig.activation(width, Rows::Sequences);
      rig.add(Op::Normalize, {{Role::X, {y}}, {Role::Y, {unit}}});
      check_near(
          rig.run(feed, unit),
          [&](int s, int k) {
            double squares = 0;
            for (int i = 0; i < width; ++i) squares += pooled.at(s, i) * pooled.at(s, i);
            return pooled.at(s, k) / std::max(std::sqrt(squares), 1e-12);
          },
          1e-6, "unit vector");
    }
  Rig rig(tier);
  const Operand zero = rig.given(zeros(2, 5));
  rig.add(Op::Normalize, {{Role::X, {zero}}, {Role::Y, {zero}}});
  check_near(rig.run(2, zero), [](int, int) { return 0.0; }, 0.0, "unit vector of zero");
}

// Columns of a wider activation can be read and written.
KERNEL_TEST(columns_of_a_buffer) {
  Random random(20);
  const Matrix x = random_matrix(random, kRows, 70);
  Rig rig(tier, 2);
  const Operand whole = rig.given(x);
  const Operand part{whole.buffer, 19, 30};
  const Operand other{whole.buffer, 1, 18};
  rig.add(Op::Add, {{Role::A, {part}}, {Role::B, {part}}, {Role::Y, {part}}});
  rig.add(Op::Normalize, {{Role::X, {other}}, {Role::Y, {other}}});
  check_near(
      rig.run(kRows, whole),
      [&](int row, int k) {
        if (k >= 19 && k < 49) return 2.0 * x.at(row, k);
        if (k < 1 || k >= 19) return double(x.at(row, k));
        double squares = 0;
        for (int i = 1; i < 19; ++i) squares += double(x.at(row, i)) * x.at(row, i);
        return x.at(row, k) / std::sqrt(squares);
      },
      1e-6, "columns of a buffer");
}

}  // namespace
}  // namespace overclock::testing
