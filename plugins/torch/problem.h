// From the C interface to a problem of the kernels.
#pragma once

#include "kernels/problem.h"
#include "torch/api.h"

namespace rms_deploy::torch {

inline Problem problem_of(const RmsDeployTorchNorm& norm, int64_t outer, const void* x, const void* scale) {
  Problem p;
  p.type = static_cast<contract::ElementType>(norm.type);
  p.scale_type = static_cast<contract::ElementType>(norm.scale_type);
  p.sum_type = p.type;
  p.x = x;
  p.scale = scale;
  p.outer = outer;
  p.n = norm.n;
  p.inner = norm.inner;
  p.statistics_size = norm.statistics_size;
  p.scalar_scale = norm.scalar_scale != 0;
  p.round_before_scale = norm.round_before_scale != 0;
  p.round_reciprocal = p.round_before_scale && norm.round_reciprocal != 0;
  p.epsilon = norm.epsilon;
  p.rms_epsilon = norm.rms_epsilon;
  p.rms_min = norm.rms_min;
  return p;
}

}  // namespace rms_deploy::torch
