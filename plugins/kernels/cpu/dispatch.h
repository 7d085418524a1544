// Which instruction-set level of the kernels runs on this machine.
#pragma once

#include "kernels/cpu/norm.h"

namespace rms_deploy::cpu {

struct Level {
  const char* name;  // "portable", "x86-64-v2", "avx2", "avx512"
  NormFunction norm;
};

// The highest level that the machine has; or the one that `forced` names (null or empty: not forced).
// Null when the machine has none, or not the forced one: `problem` then says why, in words to follow "rms_deploy: ".
const Level* select_level(const char* forced, const char** problem);

}  // namespace rms_deploy::cpu
