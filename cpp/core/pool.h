// Threads that wait for a job, run it together and can meet at barriers inside it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace overclock {

// A meeting point for a fixed number of threads. Waiting spins, and gives way to other threads
// when the wait is long, so that more threads than cores still make progress.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}

  void wait() {
    wait([] {});
  }

  // Calls idle() again and again while it waits.
  template <class Idle>
  void wait(Idle idle) {
    if (threads_ == 1) return;
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
      idle();
      relax(spins);
    }
  }

  static void relax(int spins);

 private:
  const int threads_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
};

// `threads` threads in all: the caller of run() is thread 0. Workers spin for a fraction of a
// millisecond after a job and then sleep, so that an idle engine uses no processor time.
class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }
  Barrier& barrier() { return barrier_; }

  // Calls job(thread) on every thread and returns when all have returned. Jobs must not throw.
  void run(const std::function<void(int)>& job);

 private:
  void close();
  void work(int thread);
  uint32_t next_job(uint32_t seen) const;

  const int threads_;
  Barrier barrier_;
  const std::function<void(int)>* job_ = nullptr;
  alignas(64) std::atomic<uint32_t> issued_{0};
  alignas(64) std::atomic<int> running_{0};
  std::atomic<bool> closing_{false};
  std::vector<std::thread> workers_;
};

}  // namespace overclock
