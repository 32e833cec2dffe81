// Memory for what runs hand out. A result is somebody's for as long as it is held; then the next
// run writes where it was, which spares the system's fresh pages: more time than a short run has.
#pragma once

#include <memory>
#include <vector>

#include "core/memory.h"

namespace overclock {

class Results {
 public:
  // Room for `bytes` bytes that nobody else holds; throws std::bad_alloc.
  std::shared_ptr<Memory> take(size_t bytes);

 private:
  // Two, because the last result is mostly still held while the next is computed.
  static constexpr size_t kMostKept = 2;
  // A larger result costs more than its pages, and its memory would lie idle for long.
  static constexpr size_t kMostKeptBytes = 64u << 20;

  std::vector<std::shared_ptr<Memory>> kept_;
  size_t oldest_ = 0;
};

}  // namespace overclock
