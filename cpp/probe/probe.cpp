#include "probe.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace overclock::probe {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Pins the calling thread to the index-th core it may run on, so that two never share one.
void pin(int index) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) == 0) return;
  int wanted = index % CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || wanted-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    return;
  }
#else
  (void)index;
#endif
}

double median(std::vector<double>& values) {
  auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Runs `slice(thread)`, which returns the units of work it did, on every thread at once until the
// time is over. All threads prepare before any starts, so that no slice runs beside an idle core.
template <typename Prepare, typename Slice>
double rate(int threads, double seconds, Prepare prepare, Slice slice) {
  std::vector<double> rates(static_cast<std::size_t>(threads));
  std::atomic<int> ready{0};
  auto body = [&](int thread) {
    pin(thread);
    prepare(thread);
    ready.fetch_add(1);
    while (ready.load() < threads) std::this_thread::yield();
    slice(thread);  // warm up
    std::vector<double> slices;
    for (auto start = Clock::now(); slices.empty() || seconds_since(start) < seconds;) {
      auto begin = Clock::now();
      double units = slice(thread);
      slices.push_back(units / seconds_since(begin));
    }
    rates[static_cast<std::size_t>(thread)] = median(slices);
  };
  std::vector<std::thread> pool;
  for (int thread = 0; thread < threads; ++thread) pool.emplace_back(body, thread);
  for (auto& thread : pool) thread.join();
  double sum = 0;
  for (double value : rates) sum += value;
  return sum;
}

// Makes the compiler believe that a register changes here, so that nothing is elided or hoisted.
#if defined(__x86_64__)
#define OPAQUE(value) asm volatile("" : "+x"(value))
#define OPAQUE_512(value) asm volatile("" : "+v"(value))
#define TARGET(isa) __attribute__((target(isa)))
#elif defined(__aarch64__)
#define OPAQUE(value) asm volatile("" : "+w"(value))
#else
#define OPAQUE(value) asm volatile("" : "+m"(value))
#endif

// A slice of a register loop: some 50 µs to 200 µs.
constexpr int rounds = 20'000;

// Accumulators in flight. Latency times throughput of a multiply-add is 8 to 10 on every x86-64 and
// 64-bit ARM core of the last ten years; 16 baseline registers leave room for 12.
constexpr int chains = 12;

// ---- portable: 16-byte vectors of the compiler, which are SSE2 or NEON without naming either

typedef float f32x4 __attribute__((vector_size(16)));
typedef std::int16_t i16x8 __attribute__((vector_size(16)));
typedef std::uint64_t u64x2 __attribute__((vector_size(16)));

double f32_portable() {
  f32x4 a = {1.0f, 1.0f, 1.0f, 1.0f}, b = a * 1e-3f, sums[chains] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (f32x4& sum : sums) {
      sum += a * b;
      OPAQUE(sum);
      OPAQUE(a);
    }
  }
  return 2.0 * 4 * chains * rounds;
}

// Without a dot-product instruction, int8 products are summed as int16.
double int8_portable() {
  i16x8 a = {1, 2, 3, 4, 5, 6, 7, 8}, b = a + 1, sums[chains] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (i16x8& sum : sums) {
      sum += a * b;
      OPAQUE(sum);
      OPAQUE(a);
    }
  }
  return 2.0 * 8 * chains * rounds;
}

// Far enough ahead that the line has come from memory when its turn is there.
constexpr std::ptrdiff_t prefetch_bytes = 1024;

void read_portable(const std::byte* data, std::size_t bytes) {
  u64x2 sums[4] = {};
  for (const std::byte* line = data; line != data + bytes; line += 64) {
    __builtin_prefetch(line + prefetch_bytes);
    const auto* values = reinterpret_cast<const u64x2*>(line);
    for (int i = 0; i < 4; ++i) sums[i] += values[i];
  }
  for (u64x2& sum : sums) OPAQUE(sum);
}

// ---- x86-64

#if defined(__x86_64__)

TARGET("avx2,fma") double f32_avx2() {
  __m256 a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(1e-3f), sums[chains] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m256& sum : sums) {
      sum = _mm256_fmadd_ps(a, b, sum);
      OPAQUE(sum);
    }
  }
  return 2.0 * 8 * chains * rounds;
}

TARGET("avx512f") double f32_avx512() {
  __m512 a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(1e-3f), sums[chains] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m512& sum : sums) {
      sum = _mm512_fmadd_ps(a, b, sum);
      OPAQUE_512(sum);
    }
  }
  return 2.0 * 16 * chains * rounds;
}

TARGET("avx2") double int8_avx2() {
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2), ones = _mm256_set1_epi16(1);
  __m256i sums[chains] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m256i& sum : sums) {
      __m256i pairs = _mm256_maddubs_epi16(a, b);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
      OPAQUE(sum);
      OPAQUE(a);
    }
  }
  return 2.0 * 32 * chains * rounds;
}

TARGET("avx2,avxvnni") double int8_avx_vnni() {
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2), sums[chains] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m256i& sum : sums) {
      sum = _mm256_dpbusd_avx_epi32(sum, a, b);
      OPAQUE(sum);
    }
  }
  return 2.0 * 32 * chains * rounds;
}

TARGET("avx512f,avx512vnni") double int8_avx512_vnni() {
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2), sums[chains] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, a, b);
      OPAQUE_512(sum);
    }
  }
  return 2.0 * 64 * chains * rounds;
}

TARGET("avx2") void read_avx2(const std::byte* data, std::size_t bytes) {
  __m256i sums[2] = {};
  for (const std::byte* line = data; line != data + bytes; line += 64) {
    _mm_prefetch(line + prefetch_bytes, _MM_HINT_T0);
    const auto* values = reinterpret_cast<const __m256i*>(line);
    sums[0] = _mm256_add_epi64(sums[0], _mm256_load_si256(values));
    sums[1] = _mm256_add_epi64(sums[1], _mm256_load_si256(values + 1));
  }
  for (__m256i& sum : sums) OPAQUE(sum);
}

TARGET("avx512f") void read_avx512(const std::byte* data, std::size_t bytes) {
  __m512i sum = _mm512_setzero_si512();
  for (const std::byte* line = data; line != data + bytes; line += 64) {
    _mm_prefetch(line + prefetch_bytes, _MM_HINT_T0);
    sum = _mm512_add_epi64(sum, _mm512_load_si512(line));
  }
  OPAQUE_512(sum);
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() { return __builtin_cpu_supports("avx512f"); }

#endif

// ---- what fits this processor

using Peak = double (*)();
using Reader = void (*)(const std::byte*, std::size_t);

Peak best_f32() {
#if defined(__x86_64__)
  if (has_avx512()) return f32_avx512;
  if (has_avx2()) return f32_avx2;
#endif
  return f32_portable;
}

Peak best_int8() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni")) return int8_avx512_vnni;
  if (__builtin_cpu_supports("avxvnni")) return int8_avx_vnni;
  if (has_avx2()) return int8_avx2;
#endif
  return int8_portable;
}

Reader best_reader() {
#if defined(__x86_64__)
  if (has_avx512()) return read_avx512;
  if (has_avx2()) return read_avx2;
#endif
  return read_portable;
}

double peak(int threads, double seconds, Peak slice) {
  double operations = rate(threads, seconds, [](int) {}, [slice](int) { return slice(); });
  return operations / 1e9;
}

}  // namespace

double read_bandwidth(int threads, std::size_t bytes, double seconds) {
  constexpr std::size_t huge_page = 2u << 20;
  std::size_t count = static_cast<std::size_t>(threads);
  // Small buffers are for the caches: whole pages of 4 KiB, read again and again in a slice.
  const std::size_t unit = bytes / count < huge_page ? std::size_t{4096} : huge_page;
  std::size_t share = std::max(bytes / count / unit, std::size_t{1}) * unit;
  const std::size_t passes = std::max<std::size_t>(1, huge_page / share);
  auto release = [](std::byte* data) { std::free(data); };
  std::unique_ptr<std::byte, decltype(release)> memory(
      static_cast<std::byte*>(std::aligned_alloc(huge_page, share * count)), release);
  if (!memory) throw std::bad_alloc();
#if defined(__linux__)
  madvise(memory.get(), share * count, MADV_HUGEPAGE);  // the limit is memory's, not the TLB's
#endif
  auto part = [&](int thread) { return memory.get() + share * static_cast<std::size_t>(thread); };
  Reader read = best_reader();
  auto fill = [&](int thread) { std::memset(part(thread), 1 + thread, share); };
  auto slice = [&](int thread) {
    for (std::size_t pass = 0; pass < passes; ++pass) read(part(thread), share);
    return static_cast<double>(passes * share);
  };
  return rate(threads, seconds, fill, slice) / 1e9;
}

double peak_f32(int threads, double seconds) { return peak(threads, seconds, best_f32()); }

double peak_int8(int threads, double seconds) { return peak(threads, seconds, best_int8()); }

double timer_resolution_ns() {
  double smallest = 1e9;
  for (int i = 0; i < 1000; ++i) {
    auto first = Clock::now(), next = first;
    while (next == first) next = Clock::now();
    smallest = std::min(smallest, std::chrono::duration<double, std::nano>(next - first).count());
  }
  return smallest;
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
#if defined(__x86_64__)
#define ADD_IF_SUPPORTED(builtin, name) \
  if (__builtin_cpu_supports(builtin)) names.emplace_back(name);
  ADD_IF_SUPPORTED("sse4.2", "sse4_2")
  ADD_IF_SUPPORTED("avx2", "avx2")
  ADD_IF_SUPPORTED("fma", "fma")
  ADD_IF_SUPPORTED("f16c", "f16c")
  ADD_IF_SUPPORTED("avxvnni", "avx_vnni")
  ADD_IF_SUPPORTED("avx512f", "avx512f")
  ADD_IF_SUPPORTED("avx512bw", "avx512bw")
  ADD_IF_SUPPORTED("avx512vl", "avx512vl")
  ADD_IF_SUPPORTED("avx512vnni", "avx512_vnni")
  ADD_IF_SUPPORTED("avx512bf16", "avx512_bf16")
  ADD_IF_SUPPORTED("amx-tile", "amx_tile")
  ADD_IF_SUPPORTED("amx-int8", "amx_int8")
#undef ADD_IF_SUPPORTED
#elif defined(__aarch64__)
  names.emplace_back("asimd");
#endif
  return names;
}

}  // namespace overclock::probe
