// What this computer can do at best: measured, not looked up. See machine/limits.py.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace overclock::probe {

// Each rate is the sum over `threads` threads, pinned one to a core where the system allows, of the
// median over the slices of about `seconds` seconds. `threads` is at least 1.

// GB/s (1e9 bytes) of reading `bytes` bytes, divided among the threads, again and again.
// `bytes` should be several times the last-level cache. Throws std::bad_alloc.
double read_bandwidth(int threads, std::size_t bytes, double seconds);

// GFLOP/s of f32 multiply-adds in registers; a multiply-add counts as two operations.
double peak_f32(int threads, double seconds);

// GOP/s of int8 dot products in registers, by the best instruction this processor has; a multiply
// and an add count as two operations.
double peak_int8(int threads, double seconds);

// Nanoseconds of the smallest step of the monotonic clock that two readings can tell apart.
double timer_resolution_ns();

// Names of the instruction sets, as /proc/cpuinfo spells them, that kernels may use here.
std::vector<std::string> instruction_sets();

}  // namespace overclock::probe
