// What a kernel sees of one run: the batch, the memory behind operands, and its own lane.
#pragma once

#include <atomic>
#include <vector>

#include "core/adapters.h"
#include "core/layout.h"
#include "core/logits.h"

namespace overclock {

// Tokens of all sequences laid end to end; see machine/machine.py for the meaning of each field.
struct Batch {
  int tokens = 0;
  int sequences = 0;
  int selected = 0;
  int page_columns = 0;
  const int32_t* token_ids = nullptr;
  const int32_t* starts = nullptr;
  const int32_t* contexts = nullptr;
  const int32_t* pages = nullptr;  // [sequences, page_columns]
  const int32_t* output_rows = nullptr;
  const int32_t* token_types = nullptr;
  const int32_t* adapters = nullptr;  // [sequences], 0 for none; null for none at all
  std::vector<int32_t> positions;     // [tokens]
  std::vector<int32_t> sequence_of;   // [tokens]

  // The integers that input buffer `input` stands for: token ids, positions, or token types, which
  // are null if all are zero.
  const int32_t* ids(int input) const {
    return input == 0 ? token_ids : input == 1 ? positions.data() : token_types;
  }
  int length(int sequence) const { return starts[sequence + 1] - starts[sequence]; }
  const int32_t* pages_of(int sequence) const {
    return pages + size_t(sequence) * size_t(page_columns);
  }
};

struct FloatRows {
  float* data;
  size_t stride;  // in floats

  float* row(int index) const { return data + size_t(index) * stride; }
};

// Rows of int8; with two terms each row is followed by the row of what it leaves.
struct QuantizedRows {
  uint8_t* data;
  size_t stride;  // in bytes
  int columns;
  int terms = 1;

  QuantizedRow row(int index) const { return {data + size_t(index) * stride, columns}; }
  QuantizedRow rest(int index) const {
    return {data + size_t(index) * stride + stride / 2, columns};
  }
  // Both terms as rows of their own.
  QuantizedRows apart() const { return {data, stride / size_t(terms), columns}; }
};

// KV pages of one layer. Per page and head: K as [head_dim][kPageTokens], V as
// [kPageTokens][value_stride], and for I8 the scales of K and V, f32[kPageTokens] each.
struct Cache {
  KvFormat format = KvFormat::F16;
  int heads = 0;
  int head_dim = 0;
  int pages = 0;
  uint8_t* data = nullptr;
  size_t page_stride = 0;  // bytes: the pages of all layers with the same number lie together

  int value_stride() const { return static_cast<int>(round_up(size_t(head_dim), kLanes)); }
  size_t element_bytes() const {
    return format == KvFormat::F32 ? 4 : format == KvFormat::F16 ? 2 : 1;
  }
  size_t keys_bytes() const {
    return round_up(size_t(head_dim) * kPageTokens * element_bytes(), 64);
  }
  size_t values_bytes() const {
    return round_up(size_t(kPageTokens) * value_stride() * element_bytes(), 64);
  }
  size_t scales_bytes() const { return format == KvFormat::I8 ? 2 * 4 * kPageTokens : 0; }
  size_t head_bytes() const { return keys_bytes() + values_bytes() + scales_bytes(); }
  size_t bytes() const { return size_t(heads) * head_bytes(); }  // of a page

  uint8_t* keys(int page, int head) const {
    return data + size_t(page) * page_stride + size_t(head) * head_bytes();
  }
  uint8_t* values(int page, int head) const { return keys(page, head) + keys_bytes(); }
  float* key_scales(int page, int head) const {
    return reinterpret_cast<float*>(values(page, head) + values_bytes());
  }
  float* value_scales(int page, int head) const { return key_scales(page, head) + kPageTokens; }
};

// Cosines and sines of one set of frequencies for every token of the batch: [tokens][2 · pairs].
struct Rotation {
  std::vector<float> frequencies;  // radians per position, [pairs]
  std::vector<float> values;

  int pairs() const { return static_cast<int>(frequencies.size()); }
  const float* cosines(int token) const { return values.data() + size_t(token) * 2 * pairs(); }
  const float* sines(int token) const { return cosines(token) + pairs(); }
};

// The rows of a batch whose sequence has an adapter, in tiles of rows that share one.
struct AdaptedRows {
  static constexpr int kTile = 8;
  struct Tile {
    int adapter;  // from 1 on
    int first;    // in rows
    int count;
  };
  std::vector<int32_t> rows;
  std::vector<Tile> tiles;
};

struct Frame {
  const Batch& batch;
  const std::vector<Buffer>& buffers;
  const std::vector<uint8_t*>& addresses;  // of every activation buffer
  const std::vector<Weight>& weights;
  const std::vector<std::vector<float>>& vectors;
  const std::vector<Cache>& caches;
  const std::vector<Rotation>& rotations;
  float* partials;  // room for attention over split contexts, or for x · Aᵀ of adapted rows
  const Adapters& adapters;
  const AdaptedRows& adapted_tokens;
  const AdaptedRows& adapted_selected;

  const Buffer& buffer(const Operand& operand) const {
    return buffers[static_cast<size_t>(operand.buffer)];
  }
  bool quantized(const Operand& operand) const { return buffer(operand).element != Element::F32; }
  int rows(const Operand& operand) const {
    switch (buffer(operand).rows) {
      case Rows::Tokens: return batch.tokens;
      case Rows::Selected: return batch.selected;
      case Rows::Sequences: return batch.sequences;
      case Rows::None: break;
    }
    return 1;
  }
  FloatRows floats(const Operand& operand) const {
    const auto address = addresses[static_cast<size_t>(operand.buffer)];
    return {reinterpret_cast<float*>(address) + operand.start, size_t(buffer(operand).columns)};
  }
  QuantizedRows quantized_rows(const Operand& operand) const {
    const int columns = buffer(operand).columns;
    const int terms = terms_of(buffer(operand).element);
    return {addresses[static_cast<size_t>(operand.buffer)],
            QuantizedRow::row_bytes(columns) * size_t(terms), columns, terms};
  }
  const AdaptedRows& adapted(const Operand& operand) const {
    return buffer(operand).rows == Rows::Selected ? adapted_selected : adapted_tokens;
  }
  // What an adapter of the batch changes at the instruction's site, or null.
  const LowRank* change(const AdaptedRows::Tile& tile, const Instruction& instruction) const {
    return adapters.at(tile.adapter, instruction.site);
  }
  const Weight& weight(const Operand& operand) const {
    return weights[static_cast<size_t>(buffer(operand).index)];
  }
  const float* vector(const Operand& operand) const {
    return vectors[static_cast<size_t>(buffer(operand).index)].data();
  }
  const Cache& cache(const Operand& operand) const {
    return caches[static_cast<size_t>(buffer(operand).index)];
  }
};

// How much of a lane's share of an instruction has been claimed.
struct alignas(64) Cursor {
  std::atomic<int> claimed{0};
};

// One thread's part in one instruction. Every lane has a share of the work, one stretch from its
// first unit to its last, and claims it in pieces; then it claims from the others' shares, so that
// a thread that is held up does less. Which thread computes a piece never changes its result.
struct Lane {
  int index;
  int count;
  Cursor* cursors;  // one for each lane
  uint8_t* scratch;

  // First unit of the share of lane `lane`.
  int share_at(int total, int lane) const {
    return static_cast<int>(int64_t{total} * lane / count);
  }
  bool claim(int total, int piece, int& begin, int& end) const {
    for (int hop = 0; hop < count; ++hop) {
      const int lane = (index + hop) % count;
      const int first = share_at(total, lane);
      const int stop = share_at(total, lane + 1);
      std::atomic<int>& claimed = cursors[lane].claimed;
      if (claimed.load(std::memory_order_relaxed) >= stop - first) continue;
      begin = first + claimed.fetch_add(piece, std::memory_order_relaxed);
      if (begin >= stop) continue;
      end = begin + piece < stop ? begin + piece : stop;
      return true;
    }
    return false;
  }
  // Pieces small enough to balance the threads.
  int piece(int total) const {
    const int share = count == 1 ? total : total / (count * 8);
    return share > 1 ? share : 1;
  }
};

// Whether weights that are read once a token are better asked for past the caches (prefetchnta) or
// into the second-level cache. Measured in tokens/s at one row: on Zen 4 and 5 past the caches is
// 1.3 to 1.6 times as fast; on Intel, where such lines have only the few fill buffers of the first
// level, it is a quarter as fast.
extern const bool kPassesCaches;

using Kernel = void (*)(const Frame&, const Instruction&, const Lane&);

// The kernels of one instruction-set tier.
struct Kernels {
  const char* name;
  std::array<Kernel, static_cast<size_t>(Op::Count)> run;
  Kernel merge_attention;  // second step of Attend when contexts were split
  Kernel adapt_up;         // second step of Adapt
  bool (*splits_attention)(const Frame&, const Instruction&, int threads);
  size_t (*partial_floats)(const Frame&, const Instruction&);
  LogitKernels logits;
};

const Kernels& portable_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();

}  // namespace overclock
