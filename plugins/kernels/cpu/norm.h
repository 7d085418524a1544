// The CPU kernels: pointers, sizes and options; nothing of any framework.
//
// The tensor is seen as (outer, n, inner), normalised over n. The work is cut into units that do not depend on the
// number of threads, and a unit is computed by one thread in one order: results are bit for bit the same for any number
// of threads. Units: the rows (inner = 1), or blocks of kColumns columns (inner > 1).
#pragma once

#include <cstdint>

#include "contract.h"

namespace rms_deploy::cpu {

// Columns of one unit when inner > 1: two passes over n x 256 float32 stay in a usual L2 up to n = 512.
inline constexpr int64_t kColumns = 256;

struct Problem {
  contract::ElementType type = contract::ElementType::kFloat32;  // T, of x, residual, y, sum
  bool held_in_float32 = false;  // T is a 16-bit type, but the memory of all tensors is float32; round_before_scale
  contract::ElementType scale_type = contract::ElementType::kFloat32;  // S, of scale
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
  bool stream = false;              // y is stored past the caches, as what follows will not find it there
  float epsilon = contract::kEpsilonDefault;
  float rms_epsilon = contract::kRmsEpsilonDefault;
  float rms_min = contract::kRmsMinDefault;
};

inline int64_t unit_count(const Problem& problem) {
  return problem.inner == 1 ? problem.outer : problem.outer * ((problem.inner + kColumns - 1) / kColumns);
}

// Computes the units first ... last - 1. Units are independent of each other.
using NormFunction = void (*)(const Problem& problem, int64_t first, int64_t last);

}  // namespace rms_deploy::cpu
