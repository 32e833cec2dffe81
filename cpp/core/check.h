// The last gate before memory: what a program or a batch must be for kernels to stay within it.
//
// The compiler's verifier has checked meaning long before; here nothing is believed. Everything
// throws std::invalid_argument with one sentence.
#pragma once

#include "core/frame.h"

namespace overclock {

inline constexpr int kMostHead = 512;            // columns of a head
inline constexpr int kMostHeads = 1024;          // of an instruction or a cache
inline constexpr int kMostShared = 24;           // query heads of one KV head
inline constexpr int kMostColumns = 1 << 20;     // of an activation
inline constexpr int kMostSites = 1 << 16;       // of adapters
inline constexpr int kMostTokens = 1 << 20;      // of a batch
inline constexpr int kMostMatrixSide = 1 << 28;  // rows or columns of a weight

void require(bool holds, const char* why);

// What operands can stand for.
struct Holdings {
  const std::vector<Buffer>& buffers;
  const std::vector<Weight>& weights;
  const std::vector<std::vector<float>>& vectors;
  const std::vector<Cache>& caches;
  size_t slots;
  int context;   // most tokens of a sequence
  int adapters;  // that a batch may name
};

void check_buffer(const Holdings& holdings, const Buffer& buffer);

// `pairs` is the number of frequencies that come with the instruction.
void check_instruction(const Holdings& holdings, const Instruction& instruction, size_t pairs);

// Shape of the batch, positions and pages, and the ids that the instructions look up.
void check_batch(const Holdings& holdings, const std::vector<Instruction>& instructions,
                 const Batch& batch);

}  // namespace overclock
