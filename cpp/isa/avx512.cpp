// Kernels for processors with AVX-512 (F, BW, DQ, VL) and VNNI.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/frame.h"
#include "core/pack.h"

namespace overclock {
namespace avx512 {
#include "isa/simd_avx512.h"

#include "isa/kernels.inc"
}  // namespace avx512

const Kernels& avx512_kernels() {
  static const Kernels kernels = avx512::make_kernels("avx512");
  return kernels;
}
}  // namespace overclock
