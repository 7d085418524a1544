// The launcher by C's rules, for ctypes: a contiguous (outer, n, inner), a scale of n elements of the type of x.
#include "kernels/cuda/norm.h"

extern "C" __attribute__((visibility("default"))) int norm(int type, const void* x, const void* operand,
                                                           const void* scale, void* y, void* sum, int64_t outer,
                                                           int64_t n, int64_t inner, int gate, int tactic,
                                                           void* stream) {
  rms_deploy::Problem p;
  p.type = p.scale_type = static_cast<rms_deploy::contract::ElementType>(type);
  p.x = x;
  p.operand = operand;
  p.scale = scale;
  p.y = y;
  p.sum = sum;
  p.outer = outer;
  p.n = p.statistics_size = n;
  p.inner = inner;
  p.gate = static_cast<rms_deploy::contract::Gate>(gate);
  return static_cast<int>(rms_deploy::cuda::launch(p, tactic, static_cast<rms_deploy::cuda::Stream>(stream)));
}

extern "C" __attribute__((visibility("default"))) int prepare() {
  return static_cast<int>(rms_deploy::cuda::prepare());
}
