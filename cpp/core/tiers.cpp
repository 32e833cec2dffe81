#include "core/tiers.h"

#include <stdexcept>

namespace overclock {
namespace {

bool passes_caches() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_is("amd") != 0;
#else
  return false;
#endif
}

struct Tier {
  const char* name;
  bool runs_here;
  const Kernels& (*kernels)();
};

std::vector<Tier> all_tiers() {
  std::vector<Tier> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  found.push_back({"avx512", avx512, avx512_kernels});
  found.push_back({"avx2", avx2, avx2_kernels});
#endif
  found.push_back({"portable", true, portable_kernels});
  return found;
}

}  // namespace

const bool kPassesCaches = passes_caches();

std::vector<std::string> tiers() {
  std::vector<std::string> names;
  for (const Tier& tier : all_tiers())
    if (tier.runs_here) names.emplace_back(tier.name);
  return names;
}

const Kernels& kernels_of(const std::string& name) {
  for (const Tier& tier : all_tiers())
    if (tier.runs_here && (name.empty() || name == tier.name)) return tier.kernels();
  throw std::invalid_argument("there is no kernel tier '" + name + "' for this processor");
}

}  // namespace overclock
