// The words that the whole core shares: opcodes, formats, operands, instructions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace overclock {

enum class Op : uint8_t {
  Embed,
  Add,
  RmsNorm,
  LayerNorm,
  Quantize,
  Matmul,
  GatedMatmul,
  Adapt,
  Activate,
  Gate,
  Rope,
  Store,
  RopeStore,
  Attend,
  AttendAll,
  Select,
  Pool,
  Normalize,
  Count
};

enum class Format : uint8_t {
  F32,
  F16,
  BF16,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q8_0,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  I8,
  Count
};

enum class Activation : uint8_t { None, Silu, Gelu, GeluTanh, Relu, Tanh };
enum class RopeStyle : uint8_t { Halves, Interleaved };
enum class PoolMethod : uint8_t { Mean, Cls };
enum class KvFormat : uint8_t { F32, F16, I8 };

enum class Kind : uint8_t { Input, Weight, Vector, Activation, Cache };
enum class Rows : uint8_t { None, Tokens, Selected, Sequences };
// I8x2 is two int8 numbers for each value: what the first leaves is rounded again.
enum class Element : uint8_t { F32, I8, I8x2 };

// int8 numbers that stand for a value, 0 for f32.
constexpr int terms_of(Element element) { return static_cast<int>(element); }

// Operand roles over all opcodes; an instruction uses the few that its opcode names.
enum class Role : uint8_t {
  X,
  W,
  B,
  Bias,
  Residual,
  Gate,
  Up,
  Ids,
  Table,
  A,
  Q,
  K,
  V,
  Frequencies,
  QNorm,
  KNorm,
  Cache,
  Y,
  Quantized,
  Count
};

inline constexpr int kPageTokens = 32;  // tokens in one KV page
inline constexpr int kGroup = 32;       // columns of an activation row that share one scale
inline constexpr int kLanes = 16;       // lanes of a vector
inline constexpr int kPanel = 32;       // output columns of one weight panel

struct Operand {
  int buffer;
  int start;
  int columns;
};

struct Instruction {
  Op op;
  std::array<std::vector<Operand>, static_cast<size_t>(Role::Count)> operands;
  Activation activation = Activation::None;
  RopeStyle style = RopeStyle::Halves;
  PoolMethod method = PoolMethod::Mean;
  float epsilon = 0.0f;
  float scale = 1.0f;
  int heads = 1;
  int kv_heads = 1;
  int window = 0;
  int offset = 0;
  int site = 0;    // what adapters know the product as, for Adapt
  int table = -1;  // index of the rotation table, for opcodes with frequencies

  const std::vector<Operand>& all(Role role) const { return operands[static_cast<size_t>(role)]; }
  bool has(Role role) const { return !all(role).empty(); }
  const Operand& one(Role role) const { return all(role).front(); }
};

struct Buffer {
  Kind kind = Kind::Activation;
  Rows rows = Rows::None;
  Element element = Element::F32;
  int columns = 0;
  int index = 0;  // which slot, weight, vector, input or cache
};

inline constexpr size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace overclock
