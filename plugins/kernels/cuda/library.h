// The compiled kernels in the driver's hands.
#pragma once

#include "contract.h"
#include "kernels/cuda/driver.h"

namespace rms_deploy::cuda {

using Kernel = CUkern_st*;

// The kernels of one element type.
struct Kernels {
  Kernel rows[4];  // 1, 2, 4, 8 packs per thread
  Kernel shared_rows;
  Kernel any_rows;
  Kernel columns[4];  // 16, 8, 4, 2 bytes per access; of float32 without the last
};

// Sets `kernels` to those of a type, and gives a thread that has no CUDA context one. The first call hands the image to
// the driver, which loads it into each context that needs it.
[[nodiscard]] Error find_kernels(contract::ElementType type, const Kernels*& kernels);

}  // namespace rms_deploy::cuda
