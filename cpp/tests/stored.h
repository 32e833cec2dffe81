// Matrices as files store them, made at random, with their values by a plain reading of the
// formats.
#pragma once

#include "core/types.h"
#include "tests/testing.h"

namespace overclock::testing {

struct Stored {
  Format format;
  int rows;
  int columns;
  std::vector<uint8_t> bytes;
  std::vector<double> values;  // [rows][columns]

  double at(int row, int column) const { return values[size_t(row) * size_t(columns) + column]; }
};

// The formats that files have.
extern const std::vector<Format> kStoredFormats;
const char* name_of(Format format);
int block_elements(Format format);
bool is_float_format(Format format);

// Random blocks: every bit of a block at random, but for scales of a sensible size.
Stored random_stored(Random& random, Format format, int rows, int columns);

// f32 values as a stored matrix.
Stored stored(const Matrix& values);

double half_value(uint16_t half);
// The 16-bit float nearest to a value, by trying both neighbours.
uint16_t nearest_half(double value);

}  // namespace overclock::testing
