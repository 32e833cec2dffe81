// What kernels should give, by plain loops in double precision.
#pragma once

#include "core/types.h"
#include "tests/testing.h"

namespace overclock::testing {

double activated(Activation function, double x);
const char* name_of(Activation function);

// x as int8 in groups of 32 columns, in one term or two, and back.
Matrix through_int8(const Matrix& x, int terms = 1);

// Norm of `count` values from row `row`, column `first` on: value `i` of it, before weights.
double rms_normed(const Matrix& x, int row, int first, int count, int i, double epsilon);
double layer_normed(const Matrix& x, int row, int i, double epsilon);

// One step of int8 of a row's group: what the rounding of a value may change.
double step_of(const Matrix& x, int row, int column);

}  // namespace overclock::testing
