// A clock that costs a few nanoseconds to read: the time-stamp counter where there is one.
#pragma once

#include <chrono>
#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace overclock {

inline uint64_t ticks_now() {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

// Seconds of one tick, measured against the monotonic clock since the program started.
double seconds_per_tick();

}  // namespace overclock
