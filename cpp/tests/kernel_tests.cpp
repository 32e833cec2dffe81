// Runs every kernel test on every tier; with an argument, those whose name contains it.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "core/tiers.h"
#include "tests/testing.h"

namespace overclock::testing {
namespace {

constexpr int kMostShown = 20;

struct Named {
  const char* name;
  Test test;
};
std::vector<Named>& all_tests() {
  static std::vector<Named> tests;
  return tests;
}
int failures = 0;

int run_all(const char* part) {
  using Clock = std::chrono::steady_clock;
  for (const std::string& tier : tiers())
    for (const Named& test : all_tests()) {
      if (!std::strstr(test.name, part)) continue;
      const int before = failures;
      const auto start = Clock::now();
      test.test(tier);
      const std::chrono::duration<double> seconds = Clock::now() - start;
      std::printf("%-9s %-40s %6.2f s  %s\n", tier.c_str(), test.name, seconds.count(),
                  failures == before ? "passed" : "FAILED");
    }
  if (failures > 0) std::printf("%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace

Register::Register(const char* name, Test test) { all_tests().push_back({name, test}); }

void check(bool holds, const std::string& what) {
  if (holds) return;
  if (++failures <= kMostShown) std::printf("  failed: %s\n", what.c_str());
}

void check_refused(const std::function<void()>& call, const std::string& what) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return;
  }
  check(false, "not refused: " + what);
}

Matrix zeros(int rows, int columns) {
  return {rows, columns, std::vector<float>(size_t(rows) * size_t(columns))};
}

Matrix random_matrix(Random& random, int rows, int columns) {
  Matrix made = zeros(rows, columns);
  for (float& value : made.values) value = uniform(random, -1.0f, 1.0f);
  return made;
}

void check_same_bits(const Matrix& a, const Matrix& b, const std::string& what) {
  check(a.columns == b.columns, what + ": other columns");
  const size_t count = std::min(a.values.size(), b.values.size());
  check(count > 0 && std::memcmp(a.values.data(), b.values.data(), 4 * count) == 0,
        what + ": other bits");
}

void check_near(const Matrix& got, const Values& wanted, const Values& tolerance,
                const std::string& what) {
  for (int row = 0; row < got.rows; ++row)
    for (int column = 0; column < got.columns; ++column) {
      const double error = std::fabs(got.at(row, column) - wanted(row, column));
      if (error <= tolerance(row, column)) continue;
      return check(false, what + ": row " + std::to_string(row) + ", column " +
                              std::to_string(column) + " is " +
                              std::to_string(got.at(row, column)) + ", not " +
                              std::to_string(wanted(row, column)));
    }
}

void check_near(const Matrix& got, const Values& wanted, double tolerance,
                const std::string& what) {
  check_near(got, wanted, [=](int, int) { return tolerance; }, what);
}

}  // namespace overclock::testing

int main(int count, char** words) { return overclock::testing::run_all(count > 1 ? words[1] : ""); }
