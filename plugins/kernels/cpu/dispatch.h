// Which instruction-set level of the kernels runs on this machine.
#pragma once

#include "kernels/cpu/norm.h"

namespace rms_deploy::cpu {

struct Level {
  const char* name;  // "portable", "x86-64-v2", "avx2", "avx512"
  NormFunction norm;
  OrderFunction order_scale;
};

// The level that `forced` names, or the highest that the machine has where `forced` is null or empty.
// Returns null if the machine does not have it. `problem` then says why, in words to follow "rms_deploy: ".
const Level* select_level(const char* forced, const char** problem);

// Of the levels up to `highest`, the one that was measured to be the fastest for rows (inner = 1) of this type.
const Level* fastest_for_rows(const Level* highest, contract::ElementType type);

}  // namespace rms_deploy::cpu
