#include "core/adapters.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "core/types.h"

namespace overclock {

Adapters::Adapters(const std::vector<std::vector<Change>>& given) {
  for (const auto& changes : given) {
    auto& to = changes_.emplace_back();
    for (const Change& change : changes) {
      require(change.rank > 0 && change.rank <= kMostRank, "an adapter's rank must be 1 to 4096");
      require(to.find(change.site) == to.end(), "an adapter changes one site twice");
      lay_out(change, to[change.site]);
    }
  }
}

void Adapters::lay_out(const Change& change, LowRank& to) {
  const size_t rank = size_t(change.rank), in = size_t(change.in), out = size_t(change.out);
  const size_t padded = round_up(rank, kRankStep);
  to.rank = change.rank;
  to.down_stride = round_up(in, kLanes);
  to.up_stride = round_up(out, kPanel);
  stride_ = std::max(stride_, static_cast<int>(round_up(rank, kLanes)));
  memory_.emplace_back(4 * (padded * to.down_stride + rank * to.up_stride), false);
  auto* down = reinterpret_cast<float*>(memory_.back().data());
  float* up = down + padded * to.down_stride;
  for (size_t r = 0; r < rank; ++r)
    std::memcpy(down + r * to.down_stride, change.a + r * in, 4 * in);
  for (size_t r = 0; r < rank; ++r)
    for (size_t o = 0; o < out; ++o)
      up[r * to.up_stride + o] = change.scale * change.b[o * rank + r];
  to.down = down;
  to.up = up;
}

}  // namespace overclock
