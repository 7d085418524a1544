// The interface of the CUDA kernels of the backward pass: a gradient, a workspace and a stream. The formula is that of
// kernels/cpu/gradient.h. Nothing here allocates, synchronises or throws, so that a launch may be captured into a CUDA
// graph.
//
// The statistic is computed again from x. x must be read anyway, and a tensor for it would cost memory and an
// allocation in each forward pass.
//
// grad_scale has two stages: each block adds up the rows that it walks over, in float32, and writes its share into the
// workspace; a second kernel adds the shares in a fixed order. One kind of GPU gives the same bits in every run.
#pragma once

#include <cstdint>

#include "kernels/cuda/driver.h"
#include "kernels/cuda/norm.h"
#include "kernels/problem.h"

namespace rms_deploy::cuda {

struct Gradient {
  Problem norm;  // x (add-norm: the sum), scale, sizes and epsilons; inner is 1; the other tensors are not looked at
  const void* grad_y = nullptr;    // T
  const void* grad_sum = nullptr;  // T; null: zero
  void* grad_x = nullptr;          // T, in no other tensor's memory; null: not wanted
  void* grad_scale = nullptr;      // S, as many as scale has; null: not wanted
};

// Loads every kernel of the backward pass into the current context, so that no launch loads one during a capture.
[[nodiscard]] Error prepare_gradient();

// Bytes of workspace that grad_scale needs on a device (as cuDeviceGet counts them).
[[nodiscard]] Error find_workspace_size(const Problem& norm, int device, int64_t& bytes);

// Enqueues the kernels. `workspace`: device memory, aligned to 16 bytes; null where grad_scale is not wanted. Of an
// empty x, grad_scale is zero. Returns the launches' error; kInvalidValue for inner > 1.
[[nodiscard]] Error launch(const Gradient& gradient, void* workspace, Stream stream);

}  // namespace rms_deploy::cuda
