// Kernels for any processor, in plain C++ with the vector extensions of GCC and Clang.
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/check.h"
#include "core/frame.h"
#include "core/half.h"
#include "core/pack.h"

namespace overclock {
namespace portable {
#include "isa/simd_portable.h"

#include "isa/kernels.inc"
}  // namespace portable

// What the gate lets through has room in every tier.
static_assert(portable::kQueryRows >= kMostShared && portable::kMostHeadColumns >= kMostHead);

const Kernels& portable_kernels() {
  static const Kernels kernels = portable::make_kernels("portable");
  return kernels;
}
}  // namespace overclock
