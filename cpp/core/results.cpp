#include "core/results.h"

namespace overclock {

std::shared_ptr<Memory> Results::take(size_t bytes) {
  if (bytes > kMostKeptBytes) return std::make_shared<Memory>(bytes, false);
  for (std::shared_ptr<Memory>& kept : kept_) {
    if (kept.use_count() > 1) continue;
    if (kept->bytes() < bytes) kept = std::make_shared<Memory>(bytes, false);
    return kept;
  }
  const auto fresh = std::make_shared<Memory>(bytes, false);
  if (kept_.size() < kMostKept)
    kept_.push_back(fresh);
  else
    kept_[oldest_++ % kMostKept] = fresh;
  return fresh;
}

}  // namespace overclock
