#include "core/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "core/types.h"

namespace overclock {
namespace {
constexpr size_t kHugePage = 2u << 20;
}

Memory::Memory(size_t bytes, bool huge) {
  if (kWatched)
    take_watched(bytes);
  else
    take_pages(bytes, huge);
}

void Memory::take_watched(size_t bytes) {
  void* address = nullptr;
  if (posix_memalign(&address, 64, bytes) != 0) throw std::bad_alloc();
  std::memset(address, 0, bytes);
  data_ = static_cast<uint8_t*>(address);
  bytes_ = bytes;
}

void Memory::take_pages(size_t bytes, bool huge) {
  bytes_ = round_up(bytes + 1, huge ? kHugePage : 4096);
  void* address = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    bytes_ = 0;
    throw std::bad_alloc();
  }
  data_ = static_cast<uint8_t*>(address);
#ifdef MADV_HUGEPAGE
  if (huge) madvise(address, bytes_, MADV_HUGEPAGE);
#endif
}

Memory::~Memory() {
  if (kWatched)
    std::free(data_);
  else if (data_)
    munmap(data_, bytes_);
}

void release_mapped(const void* data, size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const auto start = round_up(reinterpret_cast<size_t>(data), page);
  const auto stop = (reinterpret_cast<size_t>(data) + bytes) / page * page;
  if (stop > start) madvise(reinterpret_cast<void*>(start), stop - start, MADV_DONTNEED);
}

}  // namespace overclock
