// LoRA adapters: y += scale · (x · Aᵀ) · Bᵀ for the rows of sequences that have one. Each knows the
// products that it changes by their site, a small number that the program gives them.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "core/memory.h"

namespace overclock {

// One change as it is handed in: A [rank, in] and B [out, rank].
struct Change {
  int site;
  int rank;
  int in;
  int out;
  float scale;
  const float* a;
  const float* b;
};

// One change as kernels want it, rows padded with zeros to whole vectors.
struct LowRank {
  int rank = 0;
  const float* down = nullptr;  // A: [rank to a multiple of kRankStep][down_stride]
  const float* up = nullptr;    // scale · Bᵀ: [rank][up_stride]
  size_t down_stride = 0;       // floats
  size_t up_stride = 0;
};

class Adapters {
 public:
  static constexpr int kRankStep = 4;  // products of x with rows of A that are taken together
  static constexpr int kMostRank = 4096;

  Adapters() = default;
  // Throws std::invalid_argument for a change of no or too high a rank, or two at one site.
  explicit Adapters(const std::vector<std::vector<Change>>& given);

  int count() const { return static_cast<int>(changes_.size()); }
  // Floats of one row of x · Aᵀ, enough for every change.
  int stride() const { return stride_; }
  // What adapter `number` (from 1 on) changes at a site, or null.
  const LowRank* at(int number, int site) const {
    const auto& changes = changes_[size_t(number) - 1];
    const auto found = changes.find(site);
    return found == changes.end() ? nullptr : &found->second;
  }

 private:
  void lay_out(const Change& change, LowRank& to);

  std::vector<std::map<int, LowRank>> changes_;
  std::vector<Memory> memory_;
  int stride_ = 0;
};

}  // namespace overclock
