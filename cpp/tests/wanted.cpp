#include "tests/wanted.h"

#include <algorithm>
#include <cmath>

namespace overclock::testing {

double activated(Activation function, double x) {
  switch (function) {
    case Activation::Silu: return x / (1 + std::exp(-x));
    case Activation::Gelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::GeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::Relu: return std::max(x, 0.0);
    case Activation::Tanh: return std::tanh(x);
    case Activation::None: break;
  }
  return x;
}

const char* name_of(Activation function) {
  constexpr const char* names[] = {"none", "silu", "gelu", "gelu_tanh", "relu", "tanh"};
  return names[static_cast<size_t>(function)];
}

namespace {

float group_most(const Matrix& x, int row, int group) {
  float most = 0;
  for (int k = 32 * group; k < std::min(x.columns, 32 * group + 32); ++k)
    most = std::max(most, std::fabs(x.at(row, k)));
  return most;
}

}  // namespace

Matrix through_int8(const Matrix& x, int terms) {
  Matrix out = x;
  Matrix rest = x;
  for (int row = 0; row < x.rows; ++row)
    for (int k = 0; k < x.columns; ++k) {
      const float most = group_most(x, row, k / 32);
      const float steps = most > 0 ? x.at(row, k) * (127.0f / most) : 0.0f;
      out.at(row, k) = std::nearbyint(steps) * (most / 127.0f);
      rest.at(row, k) = x.at(row, k) - out.at(row, k);
    }
  if (terms == 1) return out;
  rest = through_int8(rest);
  for (size_t i = 0; i < rest.values.size(); ++i) out.values[i] += rest.values[i];
  return out;
}

double step_of(const Matrix& x, int row, int column) {
  return group_most(x, row, column / 32) / 127.0;
}

double rms_normed(const Matrix& x, int row, int first, int count, int i, double epsilon) {
  double squares = 0;
  for (int k = first; k < first + count; ++k) squares += double(x.at(row, k)) * x.at(row, k);
  return x.at(row, first + i) / std::sqrt(squares / count + epsilon);
}

double layer_normed(const Matrix& x, int row, int i, double epsilon) {
  double mean = 0;
  for (int k = 0; k < x.columns; ++k) mean += x.at(row, k) / double(x.columns);
  double variance = 0;
  for (int k = 0; k < x.columns; ++k)
    variance += (x.at(row, k) - mean) * (x.at(row, k) - mean) / x.columns;
  return (x.at(row, i) - mean) / std::sqrt(variance + epsilon);
}

}  // namespace overclock::testing
