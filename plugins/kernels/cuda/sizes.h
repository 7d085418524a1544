// Arithmetic of launches: the sizes of blocks and grids.
#pragma once

#include "contract.h"
#include "kernels/cuda/kernels.h"

namespace rms_deploy::cuda {

inline constexpr int64_t kPackBytes = 16;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int64_t power_of_two_from(int64_t value) {
  int64_t power = 1;
  while (power < value) {
    power *= 2;
  }
  return power;
}

constexpr int64_t bytes_of(contract::ElementType type) { return type == contract::ElementType::kFloat32 ? 4 : 2; }

// Of a row of `units`, of which a thread takes `each`: a part of a warp, or whole warps.
constexpr int64_t threads_per_row(int64_t units, int64_t each) {
  const int64_t threads = ceil_div(units, each);
  return threads <= kWarp ? power_of_two_from(threads) : ceil_div(threads, kWarp) * kWarp;
}

}  // namespace rms_deploy::cuda
