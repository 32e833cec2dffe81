// The instruction-set tiers that this build holds and this processor can run.
#pragma once

#include <string>
#include <vector>

#include "core/frame.h"

namespace overclock {

// Names of the tiers that run here, the best first.
std::vector<std::string> tiers();

// The kernels of a tier, or of the best one for an empty name. Throws std::invalid_argument.
const Kernels& kernels_of(const std::string& tier);

}  // namespace overclock
