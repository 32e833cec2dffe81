#include "core/clock.h"

namespace overclock {
namespace {

using Monotonic = std::chrono::steady_clock;
constexpr auto kShortest = std::chrono::milliseconds(5);

struct Origin {
  Monotonic::time_point time = Monotonic::now();
  uint64_t ticks = ticks_now();
};
const Origin origin;

}  // namespace

double seconds_per_tick() {
  while (Monotonic::now() - origin.time < kShortest) {
  }
  const std::chrono::duration<double> elapsed = Monotonic::now() - origin.time;
  return elapsed.count() / static_cast<double>(ticks_now() - origin.ticks);
}

}  // namespace overclock
