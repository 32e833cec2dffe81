// What adapters change: against sums in double precision, in any company, in place and not.
#include <climits>

#include "tests/rig.h"

namespace overclock::testing {
namespace {

struct Pair {
  int site;
  float scale;
  Matrix a;  // [rank, in]
  Matrix b;  // [out, rank]

  Change change() const {
    return {site, a.rows, a.columns, b.rows, scale, a.values.data(), b.values.data()};
  }
};
using Given = std::vector<std::vector<Pair>>;

Pair random_pair(Random& random, int site, int rank, int in, int out) {
  return {site, uniform(random, 0.5f, 2.0f), random_matrix(random, rank, in),
          random_matrix(random, out, rank)};
}

std::vector<std::vector<Change>> changes(const Given& given) {
  std::vector<std::vector<Change>> made;
  for (const auto& pairs : given) {
    made.emplace_back();
    for (const Pair& pair : pairs) made.back().push_back(pair.change());
  }
  return made;
}

// a + scale · (x · Aᵀ) · Bᵀ in one number.
double adapted(const Matrix& x, const Matrix& a, const Pair& pair, int row, int column) {
  double sum = 0.0;
  for (int r = 0; r < pair.a.rows; ++r) {
    double inner = 0.0;
    for (int k = 0; k < x.columns; ++k) inner += double(x.at(row, k)) * pair.a.at(r, k);
    sum += inner * pair.b.at(column, r);
  }
  return a.at(row, column) + pair.scale * sum;
}

// x and a of every token, and an Adapt of site 3, in place or not.
struct Site {
  Rig rig;
  Operand x, a, y;

  Site(const std::string& tier, const Matrix& xs, const Matrix& as, bool in_place, int threads)
      : rig(tier, threads), x(rig.given(xs)), a(rig.given(as)) {
    y = in_place ? a : rig.activation(as.columns);
    rig.add(instruction(x, a, y));
  }
  static Instruction instruction(const Operand& x, const Operand& a, const Operand& y) {
    Instruction made = make(Op::Adapt, {{Role::X, {x}}, {Role::A, {a}}, {Role::Y, {y}}});
    made.site = 3;
    return made;
  }
};

Feed sequences(std::vector<int> lengths, std::vector<int32_t> adapters) {
  Feed feed;
  feed.lengths = std::move(lengths);
  feed.adapters = std::move(adapters);
  return feed;
}

constexpr int kShapes[][3] = {{1, 1, 1},    {16, 16, 32},  {33, 5, 17},  {64, 4, 100},
                              {100, 17, 3}, {48, 70, 130}, {15, 130, 33}};  // in, rank, out
constexpr int kTokens = 30;

KERNEL_TEST(adapters_change_the_rows_of_their_sequences) {
  Random random(51);
  for (const auto& [in, rank, out] : kShapes)
    for (bool in_place : {false, true}) {
      const Matrix xs = random_matrix(random, kTokens, in),
                   as = random_matrix(random, kTokens, out);
      Site site(tier, xs, as, in_place, 2);
      const Given given = {{random_pair(random, 3, rank, in, out)},
                           {},
                           {random_pair(random, 3, (rank + 1) / 2, in, out)}};
      site.rig.machine().set_adapters(changes(given));
      const std::vector<int32_t> adapters = {1, 0, 3, 2, 1, 3};
      Feed feed = sequences({1, 3, 13, 2, 9, 2}, adapters);
      const Batch batch = feed.batch();
      const auto wanted = [&](int row, int column) {
        const int number = adapters[size_t(batch.sequence_of[size_t(row)])];
        if (number == 0 || given[size_t(number) - 1].empty()) return double(as.at(row, column));
        return adapted(xs, as, given[size_t(number) - 1][0], row, column);
      };
      check_near(site.rig.run(feed, site.y), wanted, 2e-6 * in * rank + 1e-6, "adapt");
    }
}

KERNEL_TEST(rows_without_an_adapter_keep_their_bits) {
  Random random(52);
  const Matrix xs = random_matrix(random, 4, 20), as = random_matrix(random, 4, 50);
  for (bool in_place : {false, true})
    for (std::vector<int32_t> adapters : {std::vector<int32_t>{}, {0, 0}, {2, 2}}) {
      Site site(tier, xs, as, in_place, 2);
      site.rig.machine().set_adapters(changes({{random_pair(random, 3, 4, 20, 50)}, {}}));
      check_same_bits(site.rig.run(sequences({1, 3}, adapters), site.y), as, "no adapter");
    }
}

KERNEL_TEST(company_and_threads_change_no_bit_of_an_adapted_row) {
  Random random(53);
  for (const auto& [in, rank, out] : kShapes) {
    const Matrix xs = random_matrix(random, kTokens, in), as = random_matrix(random, kTokens, out);
    const Given given = {{random_pair(random, 3, rank, in, out)},
                         {random_pair(random, 3, 2 * rank, in, out)}};
    Site all(tier, xs, as, true, 3);
    all.rig.machine().set_adapters(changes(given));
    std::vector<int32_t> adapters;
    for (int i = 0; i < kTokens; ++i) adapters.push_back(below(random, 3));
    const Matrix together = all.rig.run(sequences(std::vector<int>(kTokens, 1), adapters), all.y);
    Site one(tier, xs, as, true, 1);
    one.rig.machine().set_adapters(changes(given));
    for (int row = 0; row < kTokens; ++row) {
      Feed feed = sequences({1}, {adapters[size_t(row)]});
      feed.first_ids = {row};
      const Matrix alone = one.rig.run(feed, one.y);
      Matrix same = zeros(1, out);
      for (int k = 0; k < out; ++k) same.at(0, k) = together.at(row, k);
      check_same_bits(alone, same, "row " + std::to_string(row));
    }
  }
}

KERNEL_TEST(columns_and_selected_rows_are_adapted) {
  Random random(54);
  const Matrix xs = random_matrix(random, 10, 24), as = random_matrix(random, 10, 40);
  const Given given = {{random_pair(random, 3, 6, 24, 20)}};
  Rig rig(tier, 2);
  const Operand x = rig.given(xs), a = rig.given(as);
  const Operand few_x = rig.activation(24, Rows::Selected);
  const Operand few_a = rig.activation(40, Rows::Selected);
  rig.add(Op::Select, {{Role::X, {x}}, {Role::Y, {few_x}}});
  rig.add(Op::Select, {{Role::X, {a}}, {Role::Y, {few_a}}});
  const Operand part = {few_a.buffer, 11, 20};
  rig.add(Site::instruction(few_x, part, part));
  rig.machine().set_adapters(changes(given));
  Feed feed = sequences({4, 6}, {0, 1});
  feed.output_rows = {9, 2, 4, 4, 0, 5};
  const std::vector<int32_t> rows = feed.output_rows;
  const auto wanted = [&](int row, int column) {
    const int from = rows[size_t(row)];
    if (from < 4 || column < 11 || column >= 31) return double(as.at(from, column));
    Matrix shifted = zeros(10, 20);
    for (int k = 0; k < 20; ++k) shifted.at(from, k) = as.at(from, 11 + k);
    return adapted(xs, shifted, given[0][0], from, column - 11);
  };
  check_near(rig.run(feed, few_a), wanted, 1e-4, "columns of selected rows");
}

KERNEL_TEST(adapters_that_fit_nothing_are_refused) {
  Random random(55);
  const Matrix xs = random_matrix(random, 4, 20), as = random_matrix(random, 4, 50);
  Site site(tier, xs, as, true, 1);
  Machine& machine = site.rig.machine();
  const Pair good = random_pair(random, 3, 4, 20, 50);
  const auto refuse = [&](const Given& given, const char* what) {
    check_refused([&] { machine.set_adapters(changes(given)); }, what);
  };
  refuse({{random_pair(random, 2, 4, 20, 50)}}, "another site");
  refuse({{good}, {random_pair(random, 3, 4, 19, 50)}}, "another width of x");
  refuse({{good}, {random_pair(random, 3, 4, 20, 51)}}, "another width of y");
  refuse({{good, good}}, "one site twice");
  for (int rank : {0, -1, INT_MIN, 4097, INT_MAX}) {
    Change change = good.change();
    change.rank = rank;
    check_refused([&] { machine.set_adapters({{change}}); }, "a rank");
  }
  machine.set_adapters(changes({{good}}));
  for (int32_t number : {-1, 2, INT32_MAX, INT32_MIN})
    check_refused([&] { site.rig.run(sequences({1, 3}, {0, number}), site.y); }, "a number");
  machine.set_adapters({});
  check_refused([&] { site.rig.run(sequences({4}, {1}), site.y); }, "an adapter that was");
  check_same_bits(site.rig.run(sequences({4}, {0}), site.y), as, "after refusals");
}

KERNEL_TEST(malformed_adapts_are_refused) {
  Rig rig(tier);
  const Operand x = rig.activation(64), a = rig.activation(32), wide = rig.activation(48);
  const Operand pooled = rig.activation(64, Rows::Sequences);
  const Operand sums = rig.activation(32, Rows::Sequences);
  const Operand chosen = rig.activation(64, Rows::Selected);
  const Operand x8 = rig.activation(64, Rows::Tokens, Element::I8);
  const Operand y8 = rig.activation(32, Rows::Tokens, Element::I8);
  const auto refuse = [&](const Instruction& instruction, const char* what) {
    check_refused([&] { rig.add(instruction); }, what);
  };
  refuse(make(Op::Adapt, {{Role::X, {x}}, {Role::Y, {a}}}), "no a");
  refuse(Site::instruction(x, a, wide), "a wider than y");
  refuse(Site::instruction(x8, a, a), "int8 x");
  refuse(Site::instruction(x, a, y8), "int8 y");
  refuse(Site::instruction(chosen, a, a), "other rows");
  refuse(Site::instruction(pooled, sums, sums), "rows of sequences");
  for (int number : {-1, 1 << 16, INT_MAX, INT_MIN}) {
    Instruction far = Site::instruction(x, a, a);
    far.site = number;
    refuse(far, "a site");
  }
}

}  // namespace
}  // namespace overclock::testing
