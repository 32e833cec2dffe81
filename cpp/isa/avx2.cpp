// Kernels for processors with AVX2, FMA and F16C.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/frame.h"
#include "core/pack.h"

namespace overclock {
namespace avx2 {
#include "isa/simd_avx2.h"

#include "isa/kernels.inc"
}  // namespace avx2

const Kernels& avx2_kernels() {
  static const Kernels kernels = avx2::make_kernels("avx2");
  return kernels;
}
}  // namespace overclock
