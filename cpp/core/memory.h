// Large zeroed memory that is only backed by pages once it is touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace overclock {

// Under the address sanitizer memory comes from malloc, so that its ends are watched, and is not
// shared out in pieces.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kWatched = true;
#else
inline constexpr bool kWatched = false;
#endif

class Memory {
 public:
  Memory() = default;
  // Throws std::bad_alloc. `huge` asks for huge pages, for what will be read from end to end.
  Memory(size_t bytes, bool huge);
  ~Memory();
  Memory(Memory&& other) noexcept { swap(other); }
  Memory& operator=(Memory&& other) noexcept {
    swap(other);
    return *this;
  }

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void take_pages(size_t bytes, bool huge);
  void take_watched(size_t bytes);
  void swap(Memory& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

// Tells the system that a range of a mapped file will not be read again soon, so that it does not
// count as this process's memory; reading it again is always possible.
void release_mapped(const void* data, size_t bytes);

}  // namespace overclock
