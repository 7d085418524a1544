// One norm, as the kernels of a CPU or a GPU take it: pointers, sizes and options.
//
// The tensor is seen as (outer, n, inner), normalised over n.
#pragma once

#include <cstdint>

#include "contract.h"
#include "kernels/rounding.h"

namespace rms_deploy {

struct Problem {
  contract::ElementType type = contract::ElementType::kFloat32;        // T, of x, z and y
  contract::ElementType scale_type = contract::ElementType::kFloat32;  // S, of scale and shift: T or kFloat32
  contract::ElementType sum_type = contract::ElementType::kFloat32;    // U, of a residual and the sum: T or kFloat32
  contract::QuantizedType quantized_type = contract::QuantizedType::kNone;  // of y, where there is one
  const void* x = nullptr;
  const void* operand = nullptr;  // z if there is a gate; else the residual of an add-norm, or null
  const void* scale = nullptr;    // scale_rows rows of n elements, or of one when scalar_scale
  const void* shift = nullptr;    // in the same shape; null: there is none
  void* y = nullptr;              // may be x or operand, if it has its type
  void* sum = nullptr;            // add-norm: x + residual rounded to U; null: not wanted. May be x or residual, if it
                                  // has its type, but not y
  int64_t outer = 0;
  int64_t n = 0;
  int64_t inner = 0;
  int64_t statistics_size = 0;  // the mean is over the first statistics_size of the n elements
  int32_t scale_rows = 1;       // outer index i takes row i / scale_repeat % scale_rows of scale
  int32_t scale_repeat = 1;
  bool scalar_scale = false;
  bool round_before_scale = false;              // x / rms and scale are rounded to T, then multiplied
  bool round_reciprocal = false;                // with it: 1 / rms is rounded to T, and x multiplied by that
  bool round_quotient = false;                  // quantised y: what y_scale divides is rounded to T once more
  bool normalizes_float32_sum = false;          // add-norm: x + residual in float32 is normalised, and not the sum
  contract::Gate gate = contract::Gate::kNone;  // inner is 1 where there is one
  float epsilon = contract::kEpsilonDefault;
  float rms_epsilon = contract::kRmsEpsilonDefault;
  float rms_min = contract::kRmsMinDefault;
  float y_scale = 0.0F;  // y is what the norm gives, rounded to T and then divided by it, where it is quantised
};

// The first element of scale for an outer index.
static RMS_DEPLOY_HOST_DEVICE int64_t scale_offset(const Problem& p, int64_t outer) {
  if (p.scale_rows == 1) {
    return 0;
  }
  return outer / p.scale_repeat % p.scale_rows * (p.scalar_scale ? 1 : p.n);
}

}  // namespace rms_deploy
