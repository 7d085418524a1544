// What the host and the kernels of the backward pass agree on.
#pragma once

#include "kernels/cuda/gradient.h"
#include "kernels/cuda/kernels.h"

namespace rms_deploy::cuda {

// x / r of a row: x * power * factor.
struct Divisor;

// The argument of every kernel of the backward pass.
struct GradientArguments {
  Gradient gradient;
  float* shares;      // parts x columns: of grad_scale; null: not wanted
  Divisor* divisors;  // of each row, from gradient_any_rows to gradient_any_scale; null: not wanted
  void* total;        // of gradient_reduce: where the sums of the columns go
  int64_t parts;
  int64_t columns;
};

// gradient_rows: packs of x, and of grad_y, that a thread holds, and the most threads of a block. They have 64
// registers each, and so a multiprocessor holds two packs of 16 bytes of either tensor for 1024 threads, whatever the
// block.
inline constexpr int kGradientVectors = 2;
inline constexpr int kGradientThreads = 1024;
inline constexpr int kAnyGradientThreads = 512;
inline constexpr int kScaleRows = 8;    // of a block of gradient_any_scale, which has a warp for each
inline constexpr int kReduceRows = 32;  // the same of gradient_reduce

}  // namespace rms_deploy::cuda
