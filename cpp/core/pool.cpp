#include "core/pool.h"

#include <sched.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <system_error>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace overclock {
namespace {

constexpr int kSpinsBeforeYield = 4096;
constexpr auto kSpinBeforeSleep = std::chrono::microseconds(2000);

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

void Barrier::relax(int spins) {
  if (spins < kSpinsBeforeYield)
    pause_briefly();
  else
    sched_yield();
}

Pool::Pool(int threads) : threads_(threads), barrier_(threads) {
  workers_.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int thread = 1; thread < threads; ++thread)
      workers_.emplace_back([this, thread] { work(thread); });
  } catch (const std::system_error&) {
    close();
    throw std::invalid_argument("the system does not give this process " + std::to_string(threads) +
                                " threads");
  }
}

Pool::~Pool() { close(); }

void Pool::close() {
  closing_.store(true, std::memory_order_release);
  issued_.fetch_add(1, std::memory_order_release);
  issued_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::run(const std::function<void(int)>& job) {
  job_ = &job;
  running_.store(threads_ - 1, std::memory_order_relaxed);
  issued_.fetch_add(1, std::memory_order_release);
  issued_.notify_all();
  job(0);
  for (int spins = 0; running_.load(std::memory_order_acquire) != 0; ++spins) Barrier::relax(spins);
}

uint32_t Pool::next_job(uint32_t seen) const {
  const auto until = std::chrono::steady_clock::now() + kSpinBeforeSleep;
  for (int spins = 1;; ++spins) {
    const uint32_t issued = issued_.load(std::memory_order_acquire);
    if (issued != seen) return issued;
    pause_briefly();
    if (spins % 64 == 0 && std::chrono::steady_clock::now() > until)
      issued_.wait(seen, std::memory_order_acquire);
  }
}

void Pool::work(int thread) {
  uint32_t seen = 0;
  while (true) {
    seen = next_job(seen);
    if (closing_.load(std::memory_order_acquire)) return;
    (*job_)(thread);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace overclock
