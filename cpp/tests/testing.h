// The few words the kernel tests are written in.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace overclock::testing {

// Notes a failure, with what was being tested, unless the condition holds.
void check(bool holds, const std::string& what);

// Notes a failure unless the call throws std::invalid_argument.
void check_refused(const std::function<void()>& call, const std::string& what);

// A test runs once for every instruction-set tier of this processor.
using Test = void (*)(const std::string& tier);
struct Register {
  Register(const char* name, Test test);
};
#define KERNEL_TEST(name)                              \
  static void name(const std::string& tier);           \
  static const Register register_##name(#name, &name); \
  static void name([[maybe_unused]] const std::string& tier)

using Random = std::mt19937;
inline float uniform(Random& random, float low, float high) {
  return low + (high - low) * static_cast<float>(random() % 65536) / 65535.0f;
}
inline int below(Random& random, int limit) {
  return static_cast<int>(random() % static_cast<uint32_t>(limit));
}

// Rows of f32 numbers.
struct Matrix {
  int rows = 0;
  int columns = 0;
  std::vector<float> values;

  float at(int row, int column) const { return values[size_t(row) * size_t(columns) + column]; }
  float& at(int row, int column) { return values[size_t(row) * size_t(columns) + column]; }
};

Matrix zeros(int rows, int columns);
Matrix random_matrix(Random& random, int rows, int columns);

// Notes a failure if the first rows of two matrices differ in a bit.
void check_same_bits(const Matrix& a, const Matrix& b, const std::string& what);

// Notes a failure if a value is further from the wanted one than its tolerance.
using Values = std::function<double(int row, int column)>;
void check_near(const Matrix& got, const Values& wanted, const Values& tolerance,
                const std::string& what);
void check_near(const Matrix& got, const Values& wanted, double tolerance, const std::string& what);

}  // namespace overclock::testing
