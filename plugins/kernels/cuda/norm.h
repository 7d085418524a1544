// The CUDA kernels: pointers, sizes, options and a stream; nothing of any framework.
//
// The tensor is seen as (outer, n, inner), normalised over n. Nothing here allocates, synchronises or throws, so that a
// launch may be captured into a CUDA graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "contract.h"

namespace rms_deploy::cuda {

struct Problem {
  contract::ElementType type = contract::ElementType::kFloat32;        // T, of x, residual, y, sum
  contract::ElementType scale_type = contract::ElementType::kFloat32;  // S, of scale: T or kFloat32
  const void* x = nullptr;
  const void* residual = nullptr;  // not null: add-norm
  const void* scale = nullptr;     // n elements, or one when scalar_scale
  void* y = nullptr;               // may be x or residual
  void* sum = nullptr;             // add-norm: x + residual rounded to T; null: not wanted. May be x or residual, not y
  int64_t outer = 0;
  int64_t n = 0;
  int64_t inner = 0;
  int64_t statistics_size = 0;  // the mean is over the first statistics_size of the n elements
  bool scalar_scale = false;
  bool round_before_scale = false;  // x / rms and scale are rounded to T, then multiplied
  float epsilon = contract::kEpsilonDefault;
  float rms_epsilon = contract::kRmsEpsilonDefault;
  float rms_min = contract::kRmsMinDefault;
};

// Kernels that compete for a problem; 0 lets `launch` choose by size. 1, 2, 4, 8: packs of 16 bytes that each thread
// keeps in registers; 16: four blocks per row. A tactic that does not fit the problem, or its pointers (rows that are
// not aligned, 16 in place), is taken as 0.
using Tactic = int32_t;
inline constexpr Tactic kAutomatic = 0;
inline constexpr int32_t kMaxTactics = 5;

// The tactics other than kAutomatic that can run this problem (its pointers are not read). Returns how many.
int32_t tactics(const Problem& problem, Tactic (&found)[kMaxTactics]);

// Loads every kernel into the current context, so that no launch loads one during a capture.
[[nodiscard]] cudaError_t prepare();

// Enqueues the kernel. An empty tensor enqueues nothing. Returns the launch's error.
[[nodiscard]] cudaError_t launch(const Problem& problem, Tactic tactic, cudaStream_t stream);

}  // namespace rms_deploy::cuda
