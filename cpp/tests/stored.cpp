// Written from the descriptions of the block formats, one value at a time, to share nothing with
// the core's packing.
#include "tests/stored.h"

#include <cmath>
#include <cstring>

namespace overclock::testing {

const std::vector<Format> kStoredFormats = {Format::F32,  Format::F16,  Format::BF16, Format::Q4_0,
                                            Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0,
                                            Format::Q2_K, Format::Q3_K, Format::Q4_K, Format::Q5_K,
                                            Format::Q6_K};

const char* name_of(Format format) {
  constexpr const char* names[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
                                   "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "I8"};
  return names[static_cast<size_t>(format)];
}

bool is_float_format(Format format) { return format <= Format::BF16; }

int block_elements(Format format) {
  return is_float_format(format) ? 1 : format <= Format::Q8_0 ? 32 : 256;
}

double half_value(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int mantissa = half & 1023;
  const double size =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return half & 0x8000 ? -size : size;
}

uint16_t nearest_half(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(value);
  uint16_t low = 0;
  uint16_t high = 0x7bff;
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (half_value(middle) <= size ? low : high) = middle;
  }
  const double to_low = size - half_value(low);
  const double to_high = half_value(high) - size;
  const bool up = to_high < to_low || (to_high == to_low && high % 2 == 0);
  return static_cast<uint16_t>(sign | (up ? high : low));
}

namespace {

using Bytes = const uint8_t*;

int block_bytes(Format format) {
  constexpr int bytes[] = {4, 2, 2, 18, 20, 22, 24, 34, 84, 110, 144, 176, 210};
  return bytes[static_cast<size_t>(format)];
}

double half_at(Bytes p) { return half_value(static_cast<uint16_t>(p[0] | p[1] << 8)); }
int nibble(Bytes p, int i) { return i < 16 ? p[i] & 15 : p[i - 16] >> 4; }
int bit(Bytes p, int i) { return (p[i / 8] >> (i % 8)) & 1; }

double float_value(Format format, Bytes p) {
  if (format == Format::F16) return half_at(p);
  uint32_t bits = 0;
  if (format == Format::F32)
    std::memcpy(&bits, p, 4);
  else
    bits = static_cast<uint32_t>(p[0] | p[1] << 8) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

double q2_value(Bytes b, int i) {
  const int part = i / 16;
  const int q = (b[16 + 32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32))) & 3;
  return half_at(b + 80) * (b[part] & 15) * q - half_at(b + 82) * (b[part] >> 4);
}

double q3_value(Bytes b, int i) {
  const int part = i / 16;
  const Bytes scales = b + 96;
  const int low = part < 8 ? scales[part] & 15 : scales[part - 8] >> 4;
  const int high = (scales[8 + part % 4] >> (2 * (part / 4))) & 3;
  const int q = (b[32 + 32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32))) & 3;
  const int set = (b[i % 32] >> (i / 32)) & 1;
  return half_at(b + 108) * (low + 16 * high - 32) * (q - (set ? 0 : 4));
}

// Q4_K and Q5_K: `high` are the fifth bits, or null.
double q45_value(Bytes b, int i, Bytes high, Bytes nibbles) {
  const int part = i / 32;
  const Bytes s = b + 4;
  const int scale = part < 4 ? s[part] & 63 : (s[part + 4] & 15) + 16 * (s[part - 4] >> 6);
  const int least = part < 4 ? s[part + 4] & 63 : (s[part + 4] >> 4) + 16 * (s[part] >> 6);
  const uint8_t byte = nibbles[32 * (i / 64) + i % 32];
  int q = part % 2 ? byte >> 4 : byte & 15;
  if (high) q += 16 * ((high[i % 32] >> part) & 1);
  return half_at(b) * scale * q - half_at(b + 2) * least;
}

double q6_value(Bytes b, int i) {
  const int quarter = i % 128 / 32;
  const uint8_t low = b[64 * (i / 128) + 32 * (quarter % 2) + i % 32];
  const int high = (b[128 + 32 * (i / 128) + i % 32] >> (2 * quarter)) & 3;
  const int q = (quarter < 2 ? low & 15 : low >> 4) + 16 * high - 32;
  return half_at(b + 208) * static_cast<int8_t>(b[192 + i / 16]) * q;
}

double block_value(Format format, Bytes b, int i) {
  switch (format) {
    case Format::Q4_0: return half_at(b) * (nibble(b + 2, i) - 8);
    case Format::Q4_1: return half_at(b) * nibble(b + 4, i) + half_at(b + 2);
    case Format::Q5_0: return half_at(b) * (nibble(b + 6, i) + 16 * bit(b + 2, i) - 16);
    case Format::Q5_1: return half_at(b) * (nibble(b + 8, i) + 16 * bit(b + 4, i)) + half_at(b + 2);
    case Format::Q8_0: return half_at(b) * static_cast<int8_t>(b[2 + i]);
    case Format::Q2_K: return q2_value(b, i);
    case Format::Q3_K: return q3_value(b, i);
    case Format::Q4_K: return q45_value(b, i, nullptr, b + 16);
    case Format::Q5_K: return q45_value(b, i, b + 16, b + 48);
    case Format::Q6_K: return q6_value(b, i);
    default: return float_value(format, b);
  }
}

// Where a block has its 16-bit scales: the first, and the second or -1.
void scale_places(Format format, int& first, int& second) {
  first = format == Format::Q2_K   ? 80
          : format == Format::Q3_K ? 108
          : format == Format::Q6_K ? 208
                                   : 0;
  const bool two = format == Format::Q4_1 || format == Format::Q5_1 || format == Format::Q4_K ||
                   format == Format::Q5_K || format == Format::Q2_K;
  second = two ? first + 2 : -1;
}

void put_half(Random& random, uint8_t* at, float most) {
  const uint16_t half = nearest_half(uniform(random, -most, most));
  at[0] = static_cast<uint8_t>(half);
  at[1] = static_cast<uint8_t>(half >> 8);
}

void random_block(Random& random, Format format, uint8_t* block) {
  if (is_float_format(format)) {
    const float value = uniform(random, -1.0f, 1.0f);
    if (format == Format::F16) return put_half(random, block, below(random, 8) ? 1.0f : 1e-5f);
    std::memcpy(block, reinterpret_cast<const uint8_t*>(&value) + (format == Format::BF16 ? 2 : 0),
                size_t(block_bytes(format)));
    return;
  }
  for (int i = 0; i < block_bytes(format); ++i) block[i] = static_cast<uint8_t>(random());
  int first;
  int second;
  scale_places(format, first, second);
  const float most = format <= Format::Q8_0 ? 0.1f : 0.002f;
  put_half(random, block + first, most);
  if (second >= 0) put_half(random, block + second, format <= Format::Q8_0 ? 1.0f : most);
}

}  // namespace

Stored random_stored(Random& random, Format format, int rows, int columns) {
  const int elements = block_elements(format);
  const int bytes = block_bytes(format);
  const size_t blocks = size_t(rows) * size_t(columns / elements);
  Stored made{format, rows, columns, std::vector<uint8_t>(blocks * size_t(bytes)), {}};
  for (size_t block = 0; block < blocks; ++block) {
    uint8_t* at = made.bytes.data() + block * size_t(bytes);
    random_block(random, format, at);
    for (int i = 0; i < elements; ++i) made.values.push_back(block_value(format, at, i));
  }
  return made;
}

Stored stored(const Matrix& values) {
  Stored made{Format::F32, values.rows, values.columns, {}, {}};
  made.bytes.resize(4 * values.values.size());
  std::memcpy(made.bytes.data(), values.values.data(), made.bytes.size());
  made.values.assign(values.values.begin(), values.values.end());
  return made;
}

}  // namespace overclock::testing
