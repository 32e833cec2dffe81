// How weights lie in memory after packing.
//
// Thirty-two output columns (rows of the checkpoint's matrix) form a panel; a panel, and with it
// the whole matrix, is read from its first byte to its last in one pass, which is what the
// processor's prefetcher follows best. A panel is a left and a right half of sixteen columns, one
// vector each. For quantised formats one block holds 16 columns x 32 consecutive inputs (k): every
// 64-byte vector carries four consecutive k for each of 16 columns, which is what one 4-way integer
// dot product takes. Vector j (0..7) covers k = 4j .. 4j+3:
//
//   nibbles  256 B  vector j < 4: low four bits;  vector j >= 4: high four bits of vector j - 4
//   pairs    128 B  two bits a value: vector j in bits 2(j % 4) of half j / 4
//   bits      64 B  one bit a value: vector j in bit j
//   bytes    512 B  eight bits a value
//
// A panel's group g of 32 inputs is: left block, right block, left scales, right scales. Formats
// with super-blocks of 256 inputs have their scales, left and right, before each eight groups. I8
// has the f32 scales of the 32 columns at the end.
#pragma once

#include "core/types.h"

namespace overclock {

// What a value is, given its bits q, its group's scales and the constant `offset`.
enum class Scheme : uint8_t {
  None,      // float formats
  Affine,    // d·q + m, f16 each, groups of 32
  Offset,    // d·(q − offset), f16, groups of 32
  Super32,   // (d·s)·q − (e·t): s, t bytes for 32 values, d, e f16 for 256
  Super16,   // (d·s)·(q − offset): s signed byte for 16 values, d f16 for 256
  Super16A,  // (d·s)·q − (e·t): s, t four bits each for 16 values, d, e f16 for 256
  Column,    // d·(q − offset): one f32 for the whole column
};

struct Layout {
  Scheme scheme;
  int nibbles, pairs, bits, bytes;  // bytes of each plane in a block, 0 if absent
  int scale_bytes;                  // of a block
  int super_bytes;                  // of 8 blocks
  int offset;

  constexpr int data() const { return nibbles + pairs + bits + bytes; }
  constexpr size_t group_bytes() const { return 2 * size_t(data() + scale_bytes); }
  constexpr size_t super_pair() const { return 2 * size_t(super_bytes); }
  // Where things lie within a panel; `half` is 0 for its left and 1 for its right columns.
  constexpr size_t block_at(int g, int half) const {
    return size_t(g) * group_bytes() + size_t(g / 8 + 1) * super_pair() + size_t(half * data());
  }
  constexpr size_t scale_at(int g, int half) const {
    return block_at(g, 0) + size_t(2 * data() + half * scale_bytes);
  }
  constexpr size_t super_at(int g, int half) const {
    return size_t(g / 8) * (8 * group_bytes() + super_pair()) + size_t(half * super_bytes);
  }
  constexpr bool quantized() const { return scheme != Scheme::None; }
};

constexpr Layout layout_of(Format format) {
  switch (format) {
    case Format::Q4_0: return {Scheme::Offset, 256, 0, 0, 0, 32, 0, 8};
    case Format::Q4_1: return {Scheme::Affine, 256, 0, 0, 0, 64, 0, 0};
    case Format::Q5_0: return {Scheme::Offset, 256, 0, 64, 0, 32, 0, 16};
    case Format::Q5_1: return {Scheme::Affine, 256, 0, 64, 0, 64, 0, 0};
    case Format::Q8_0: return {Scheme::Offset, 0, 0, 0, 512, 32, 0, 128};
    case Format::Q2_K: return {Scheme::Super16A, 0, 128, 0, 0, 32, 64, 0};
    case Format::Q3_K: return {Scheme::Super16, 0, 128, 64, 0, 32, 32, 4};
    case Format::Q4_K: return {Scheme::Super32, 256, 0, 0, 0, 32, 64, 0};
    case Format::Q5_K: return {Scheme::Super32, 256, 0, 64, 0, 32, 64, 0};
    case Format::Q6_K: return {Scheme::Super16, 256, 128, 0, 0, 32, 32, 32};
    case Format::I8: return {Scheme::Column, 0, 0, 0, 512, 0, 0, 128};
    default: return {Scheme::None, 0, 0, 0, 0, 0, 0, 0};
  }
}

// Bytes of one k of a panel of a float format.
constexpr int float_bytes(Format format) { return kPanel * (format == Format::F32 ? 4 : 2); }

// A packed matrix: `rows` outputs, `columns` inputs. A table of floats that is only looked up in
// (`looked_up`) is left as its file has it, row by row.
struct Weight {
  Format format = Format::F32;
  int rows = 0;
  int columns = 0;
  const uint8_t* data = nullptr;
  bool looked_up = false;

  int groups() const { return (columns + kGroup - 1) / kGroup; }
  int panels() const { return (rows + kPanel - 1) / kPanel; }
  size_t columns_at() const {
    const Layout layout = layout_of(format);
    return size_t(groups()) * layout.group_bytes() +
           size_t((groups() + 7) / 8) * layout.super_pair();
  }
  size_t panel_bytes() const {
    if (!layout_of(format).quantized()) return round_up(size_t(columns) * float_bytes(format), 64);
    return columns_at() + (format == Format::I8 ? 4 * kPanel : 0);
  }
  const uint8_t* panel(int index) const { return data + size_t(index) * panel_bytes(); }
};

// One row of quantised activations: int8 values, then for every group of 32 a scale, the scale
// times the sum of its values, and the sums of its two halves as two int16.
struct QuantizedRow {
  uint8_t* base;
  int columns;

  static constexpr size_t values_bytes(int columns) { return round_up(size_t(columns), 64); }
  static constexpr size_t row_bytes(int columns) {
    return round_up(values_bytes(columns) + 12 * size_t((columns + kGroup - 1) / kGroup), 64);
  }
  int groups() const { return (columns + kGroup - 1) / kGroup; }
  int8_t* values() const { return reinterpret_cast<int8_t*>(base); }
  float* scales() const { return reinterpret_cast<float*>(base + values_bytes(columns)); }
  float* scaled_sums() const { return scales() + groups(); }
  int16_t* half_sums() const { return reinterpret_cast<int16_t*>(scaled_sums() + groups()); }
};

}  // namespace overclock
