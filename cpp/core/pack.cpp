// Block structures of the source formats: ggml-common.h of the GGUF ecosystem.
#include "core/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/half.h"

namespace overclock {
namespace {

struct Block {
  int elements;
  int bytes;
};

constexpr Block block_of(Format format) {
  switch (format) {
    case Format::F32: return {1, 4};
    case Format::F16:
    case Format::BF16: return {1, 2};
    case Format::Q4_0: return {32, 18};
    case Format::Q4_1: return {32, 20};
    case Format::Q5_0: return {32, 22};
    case Format::Q5_1: return {32, 24};
    case Format::Q8_0: return {32, 34};
    case Format::Q2_K: return {256, 84};
    case Format::Q3_K: return {256, 110};
    case Format::Q4_K: return {256, 144};
    case Format::Q5_K: return {256, 176};
    case Format::Q6_K: return {256, 210};
    default: return {1, 1};
  }
}

uint16_t load16(const uint8_t* p) {
  uint16_t value;
  std::memcpy(&value, p, 2);
  return value;
}

uint32_t load32(const uint8_t* p) {
  uint32_t value;
  std::memcpy(&value, p, 4);
  return value;
}

void store32(uint8_t* p, uint32_t value) { std::memcpy(p, &value, 4); }
void store16(uint8_t* p, uint16_t value) { std::memcpy(p, &value, 2); }

constexpr uint32_t kNibble = 0x0f0f0f0fu;
constexpr uint32_t kPair = 0x03030303u;
constexpr uint32_t kBit = 0x01010101u;

// Writes the 32 values of one column's group, four to a word, into the planes of its block.
template <Format F>
void put_group(uint8_t* block, int column, const uint32_t* quads) {
  constexpr Layout L = layout_of(F);
  uint8_t* at = block + 4 * column;
  if constexpr (L.nibbles > 0) {
    for (int j = 0; j < 4; ++j)
      store32(at + 64 * j, (quads[j] & kNibble) | (quads[j + 4] & kNibble) << 4);
    at += L.nibbles;
  }
  constexpr int pair_shift = L.nibbles > 0 ? 4 : 0;
  if constexpr (L.pairs > 0) {
    for (int half = 0; half < 2; ++half) {
      uint32_t word = 0;
      for (int j = 0; j < 4; ++j) word |= ((quads[4 * half + j] >> pair_shift) & kPair) << 2 * j;
      store32(at + 64 * half, word);
    }
    at += L.pairs;
  }
  if constexpr (L.bits > 0) {
    constexpr int bit_shift = L.nibbles > 0 ? 4 : 2;
    uint32_t word = 0;
    for (int j = 0; j < 8; ++j) word |= ((quads[j] >> bit_shift) & kBit) << j;
    store32(at, word);
    at += L.bits;
  }
  if constexpr (L.bytes > 0)
    for (int j = 0; j < 8; ++j) store32(at + 64 * j, quads[j]);
}

// Where one column's group g is written: `column` counts within its half of the panel.
struct Target {
  uint8_t* panel;
  const Weight& weight;
  int half;
  int column;

  uint8_t* block(int g) const { return panel + layout_of(weight.format).block_at(g, half); }
  uint8_t* scale(int g) const { return panel + layout_of(weight.format).scale_at(g, half); }
  uint8_t* super(int g) const { return panel + layout_of(weight.format).super_at(g, half); }
};

void split_nibbles(const uint8_t* source, uint32_t* quads) {
  for (int j = 0; j < 4; ++j) {
    const uint32_t word = load32(source + 4 * j);
    quads[j] = word & kNibble;
    quads[j + 4] = (word >> 4) & kNibble;
  }
}

// Spreads four bits to the lowest bits of four bytes.
uint32_t spread_bits(uint32_t bits) {
  return (bits & 1u) | (bits & 2u) << 7 | (bits & 4u) << 14 | (bits & 8u) << 21;
}

template <Format F>
void pack_simple(const Target& to, int g, const uint8_t* source) {
  constexpr bool affine = layout_of(F).scheme == Scheme::Affine;
  constexpr bool five = F == Format::Q5_0 || F == Format::Q5_1;
  store16(to.scale(g) + 2 * to.column, load16(source));
  if constexpr (affine) store16(to.scale(g) + 32 + 2 * to.column, load16(source + 2));
  const uint8_t* bits = source + (affine ? 4 : 2);
  uint32_t quads[8];
  if constexpr (F == Format::Q8_0) {
    for (int j = 0; j < 8; ++j) quads[j] = load32(bits + 4 * j) ^ 0x80808080u;
  } else {
    split_nibbles(bits + (five ? 4 : 0), quads);
    if constexpr (five) {
      const uint32_t high = load32(bits);
      for (int j = 0; j < 8; ++j) quads[j] |= spread_bits((high >> 4 * j) & 15u) << 4;
    }
  }
  put_group<F>(to.block(g), to.column, quads);
}

// Six-bit scale and minimum number `j` of the twelve bytes that Q4_K and Q5_K have.
void scale_and_minimum(const uint8_t* packed, int j, uint8_t& scale, uint8_t& minimum) {
  if (j < 4) {
    scale = packed[j] & 63;
    minimum = packed[j + 4] & 63;
  } else {
    scale = static_cast<uint8_t>((packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4);
    minimum = static_cast<uint8_t>((packed[j + 4] >> 4) | (packed[j] >> 6) << 4);
  }
}

// Q4_K and Q5_K: 256 values from group g on.
template <Format F>
void pack_super32(const Target& to, int g, const uint8_t* source) {
  constexpr bool five = F == Format::Q5_K;
  store16(to.super(g) + 2 * to.column, load16(source));
  store16(to.super(g) + 32 + 2 * to.column, load16(source + 2));
  const uint8_t* high = source + 16;
  const uint8_t* nibbles = source + (five ? 48 : 16);
  for (int part = 0; part < 8; ++part) {
    uint8_t* scales = to.scale(g + part);
    scale_and_minimum(source + 4, part, scales[to.column], scales[16 + to.column]);
    uint32_t quads[8];
    for (int j = 0; j < 8; ++j) {
      quads[j] = (load32(nibbles + 32 * (part / 2) + 4 * j) >> 4 * (part % 2)) & kNibble;
      if constexpr (five) quads[j] |= ((load32(high + 4 * j) >> part) & kBit) << 4;
    }
    put_group<F>(to.block(g + part), to.column, quads);
  }
}

void pack_q6(const Target& to, int g, const uint8_t* source) {
  const uint8_t* scales = source + 192;
  store16(to.super(g) + 2 * to.column, load16(source + 208));
  for (int part = 0; part < 8; ++part) {
    for (int half = 0; half < 2; ++half)
      to.scale(g + part)[16 * half + to.column] = scales[2 * part + half];
    const int quarter = part % 4;
    const uint8_t* low = source + 64 * (part / 4) + 32 * (quarter % 2);
    const uint8_t* high = source + 128 + 32 * (part / 4);
    uint32_t quads[8];
    for (int j = 0; j < 8; ++j)
      quads[j] = ((load32(low + 4 * j) >> 4 * (quarter / 2)) & kNibble) |
                 ((load32(high + 4 * j) >> 2 * quarter) & kPair) << 4;
    put_group<Format::Q6_K>(to.block(g + part), to.column, quads);
  }
}

int8_t q3_scale(const uint8_t* packed, int index) {
  const int low = index < 8 ? packed[index] & 15 : packed[index - 8] >> 4;
  const int high = (packed[8 + index % 4] >> 2 * (index / 4)) & 3;
  return static_cast<int8_t>((low | high << 4) - 32);
}

void pack_q3(const Target& to, int g, const uint8_t* source) {
  store16(to.super(g) + 2 * to.column, load16(source + 108));
  for (int part = 0; part < 8; ++part) {
    for (int half = 0; half < 2; ++half)
      to.scale(g + part)[16 * half + to.column] =
          static_cast<uint8_t>(q3_scale(source + 96, 2 * part + half));
    const uint8_t* low = source + 32 + 32 * (part / 4);
    uint32_t quads[8];
    for (int j = 0; j < 8; ++j)
      quads[j] = ((load32(low + 4 * j) >> 2 * (part % 4)) & kPair) |
                 ((load32(source + 4 * j) >> part) & kBit) << 2;
    put_group<Format::Q3_K>(to.block(g + part), to.column, quads);
  }
}

void pack_q2(const Target& to, int g, const uint8_t* source) {
  store16(to.super(g) + 2 * to.column, load16(source + 80));
  store16(to.super(g) + 32 + 2 * to.column, load16(source + 82));
  for (int part = 0; part < 8; ++part) {
    for (int half = 0; half < 2; ++half)
      to.scale(g + part)[16 * half + to.column] = source[2 * part + half];
    const uint8_t* low = source + 16 + 32 * (part / 4);
    uint32_t quads[8];
    for (int j = 0; j < 8; ++j) quads[j] = (load32(low + 4 * j) >> 2 * (part % 4)) & kPair;
    put_group<Format::Q2_K>(to.block(g + part), to.column, quads);
  }
}

float load_float(Format format, const uint8_t* p) {
  switch (format) {
    case Format::F16: return half_to_float(load16(p));
    case Format::BF16: return bfloat_to_float(load16(p));
    default: {
      float value;
      std::memcpy(&value, p, 4);
      return value;
    }
  }
}

// Quantises a float row to I8: its scale and its values, offset by 128.
void pack_i8(const Target& to, Format source_format, const uint8_t* row) {
  const int bytes = block_of(source_format).bytes;
  const int columns = to.weight.columns;
  float most = 0.0f;
  for (int k = 0; k < columns; ++k)
    most = std::max(most, std::fabs(load_float(source_format, row + size_t(k) * bytes)));
  const float scale = most / 127.0f;
  std::memcpy(to.panel + to.weight.columns_at() + 4 * (kLanes * to.half + to.column), &scale, 4);
  for (int g = 0; g < to.weight.groups(); ++g) {
    uint8_t values[kGroup];
    for (int i = 0; i < kGroup; ++i) {
      const int k = kGroup * g + i;
      const float value = k < columns ? load_float(source_format, row + size_t(k) * bytes) : 0.0f;
      // A scale too small to be exact may leave more than 127 steps.
      const float steps =
          scale > 0.0f ? std::clamp(std::nearbyint(value / scale), -127.0f, 127.0f) : 0.0f;
      values[i] = static_cast<uint8_t>(static_cast<int>(steps) + 128);
    }
    uint32_t quads[8];
    std::memcpy(quads, values, sizeof quads);
    put_group<Format::I8>(to.block(g), to.column, quads);
  }
}

void pack_float(const Target& to, const uint8_t* row) {
  const int bytes = block_of(to.weight.format).bytes;
  for (int k = 0; k < to.weight.columns; ++k)
    std::memcpy(to.panel + (size_t(k) * kPanel + kLanes * to.half + to.column) * bytes,
                row + size_t(k) * bytes, bytes);
}

void pack_block(const Target& to, int g, const uint8_t* source) {
  switch (to.weight.format) {
    case Format::Q4_0: return pack_simple<Format::Q4_0>(to, g, source);
    case Format::Q4_1: return pack_simple<Format::Q4_1>(to, g, source);
    case Format::Q5_0: return pack_simple<Format::Q5_0>(to, g, source);
    case Format::Q5_1: return pack_simple<Format::Q5_1>(to, g, source);
    case Format::Q8_0: return pack_simple<Format::Q8_0>(to, g, source);
    case Format::Q2_K: return pack_q2(to, g, source);
    case Format::Q3_K: return pack_q3(to, g, source);
    case Format::Q4_K: return pack_super32<Format::Q4_K>(to, g, source);
    case Format::Q5_K: return pack_super32<Format::Q5_K>(to, g, source);
    case Format::Q6_K: return pack_q6(to, g, source);
    default: return;
  }
}

// The bits of value k of one column.
template <Format F>
int packed_bits(const uint8_t* block, int column, int k) {
  constexpr Layout L = layout_of(F);
  const int j = k / 4;
  const uint8_t* at = block + 4 * column + k % 4;
  int bits = 0;
  if constexpr (L.nibbles > 0) bits = (at[64 * (j % 4)] >> 4 * (j / 4)) & 15;
  if constexpr (L.pairs > 0)
    bits |= ((at[L.nibbles + 64 * (j / 4)] >> 2 * (j % 4)) & 3) << (L.nibbles > 0 ? 4 : 0);
  if constexpr (L.bits > 0) bits |= ((at[L.nibbles + L.pairs] >> j) & 1) << (L.nibbles > 0 ? 4 : 2);
  if constexpr (L.bytes > 0) bits = at[64 * j];
  return bits;
}

struct Affine {
  float scale;
  float minimum;  // added after the scale; offsets are part of it
};

// Scale and minimum of part `part` (16 inputs) of group g of one column of a panel.
template <Format F>
Affine group_scale(const Weight& weight, const uint8_t* panel, int panel_column, int g, int part) {
  constexpr Layout L = layout_of(F);
  const int column = panel_column % kLanes;
  const uint8_t* scales = panel + L.scale_at(g, panel_column / kLanes);
  const uint8_t* supers = panel + L.super_at(g, panel_column / kLanes);
  const auto half_at = [&](const uint8_t* p) { return half_to_float(load16(p + 2 * column)); };
  if constexpr (L.scheme == Scheme::Affine) return {half_at(scales), half_at(scales + 32)};
  if constexpr (L.scheme == Scheme::Offset) {
    const float d = half_at(scales);
    return {d, -d * L.offset};
  }
  if constexpr (L.scheme == Scheme::Super32)
    return {half_at(supers) * scales[column], -(half_at(supers + 32) * scales[16 + column])};
  if constexpr (L.scheme == Scheme::Super16) {
    const float d = half_at(supers) * static_cast<int8_t>(scales[16 * part + column]);
    return {d, -d * L.offset};
  }
  if constexpr (L.scheme == Scheme::Super16A) {
    const uint8_t byte = scales[16 * part + column];
    return {half_at(supers) * (byte & 15), -(half_at(supers + 32) * (byte >> 4))};
  }
  float d;
  std::memcpy(&d, panel + weight.columns_at() + 4 * panel_column, 4);
  return {d, -d * L.offset};
}

template <Format F>
void unpack_quantized(const Weight& weight, const uint8_t* panel, int column, float* out) {
  for (int g = 0; g < weight.groups(); ++g) {
    const uint8_t* block = panel + layout_of(F).block_at(g, column / kLanes);
    for (int part = 0; part < 2; ++part) {
      const Affine s = group_scale<F>(weight, panel, column, g, part);
      const int first = kGroup * g + 16 * part;
      for (int i = 0; i < 16 && first + i < weight.columns; ++i)
        out[first + i] = std::fma(
            s.scale, float(packed_bits<F>(block, column % kLanes, 16 * part + i)), s.minimum);
    }
  }
}

}  // namespace

size_t file_row_bytes(Format format, int columns) {
  const Block block = block_of(format);
  return size_t(columns) / block.elements * block.bytes;
}

bool fills_blocks(Format format, int columns) { return columns % block_of(format).elements == 0; }

void pack_panel(const Weight& to, Format source_format, const uint8_t* source, int index,
                uint8_t* panel) {
  const size_t row_bytes = file_row_bytes(source_format, to.columns);
  const int first = kPanel * index;
  const int valid = std::min(kPanel, to.rows - first);
  if (valid < kPanel) std::memset(panel, 0, to.panel_bytes());
  const bool by_block = layout_of(to.format).quantized() && to.format != Format::I8;
  if (by_block) {
    const Block block = block_of(to.format);
    const int step = block.elements / kGroup;
    for (int g = 0; g < to.groups(); g += step)
      for (int column = 0; column < valid; ++column)
        pack_block({panel, to, column / kLanes, column % kLanes}, g,
                   source + size_t(first + column) * row_bytes + size_t(g / step) * block.bytes);
    return;
  }
  for (int column = 0; column < valid; ++column) {
    const Target target{panel, to, column / kLanes, column % kLanes};
    const uint8_t* row = source + size_t(first + column) * row_bytes;
    if (to.format == Format::I8)
      pack_i8(target, source_format, row);
    else
      pack_float(target, row);
  }
}

void unpack_row(const Weight& weight, int row, float* out) {
  if (weight.looked_up) {
    const size_t bytes = file_row_bytes(weight.format, 1);
    const uint8_t* from = weight.data + size_t(row) * file_row_bytes(weight.format, weight.columns);
    for (int k = 0; k < weight.columns; ++k) out[k] = load_float(weight.format, from + k * bytes);
    return;
  }
  const uint8_t* panel = weight.panel(row / kPanel);
  const int column = row % kPanel;
  switch (weight.format) {
    case Format::Q4_0: return unpack_quantized<Format::Q4_0>(weight, panel, column, out);
    case Format::Q4_1: return unpack_quantized<Format::Q4_1>(weight, panel, column, out);
    case Format::Q5_0: return unpack_quantized<Format::Q5_0>(weight, panel, column, out);
    case Format::Q5_1: return unpack_quantized<Format::Q5_1>(weight, panel, column, out);
    case Format::Q8_0: return unpack_quantized<Format::Q8_0>(weight, panel, column, out);
    case Format::Q2_K: return unpack_quantized<Format::Q2_K>(weight, panel, column, out);
    case Format::Q3_K: return unpack_quantized<Format::Q3_K>(weight, panel, column, out);
    case Format::Q4_K: return unpack_quantized<Format::Q4_K>(weight, panel, column, out);
    case Format::Q5_K: return unpack_quantized<Format::Q5_K>(weight, panel, column, out);
    case Format::Q6_K: return unpack_quantized<Format::Q6_K>(weight, panel, column, out);
    case Format::I8: return unpack_quantized<Format::I8>(weight, panel, column, out);
    default: {
      const int bytes = block_of(weight.format).bytes;
      for (int k = 0; k < weight.columns; ++k)
        out[k] = load_float(weight.format, panel + (size_t(k) * kPanel + column) * bytes);
    }
  }
}

}  // namespace overclock
