// The launcher by C's rules, for ctypes: a contiguous (outer, n, inner), a scale of n elements of the type of x.
#include "kernels/cuda/norm.h"

extern "C" __attribute__((visibility("default"))) int norm(int type, const void* x, const void* operand,
                                                           const void* scale, void* y, void* sum, int64_t outer,
                                                           int64_t n, int64_t inner, int gate, int tactic,
                                                           void* stream) {
  rms_deploy::Problem p;
  p.type = p.scale_type = p.sum_type = static_cast<rms_deploy::contract::ElementType>(type);
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

// Rows with a gate, or with what else the usual kernels leave out; `operand` is z or a residual of `sum_type`.
extern "C" __attribute__((visibility("default"))) int general(int type, int sum_type, int quantized_type, int gate,
                                                              int sums_in_float32, const void* x, const void* operand,
                                                              const void* scale, const void* shift, void* y, void* sum,
                                                              int64_t outer, int64_t n, float y_scale, void* stream) {
  rms_deploy::Problem p;
  p.type = p.scale_type = static_cast<rms_deploy::contract::ElementType>(type);
  p.sum_type = static_cast<rms_deploy::contract::ElementType>(sum_type);
  p.quantized_type = static_cast<rms_deploy::contract::QuantizedType>(quantized_type);
  p.gate = static_cast<rms_deploy::contract::Gate>(gate);
  p.normalizes_float32_sum = sums_in_float32 != 0;
  p.x = x;
  p.operand = operand;
  p.scale = scale;
  p.shift = shift;
  p.y = y;
  p.sum = sum;
  p.outer = outer;
  p.n = p.statistics_size = n;
  p.inner = 1;
  p.y_scale = y_scale;
  return static_cast<int>(rms_deploy::cuda::launch(p, 0, static_cast<rms_deploy::cuda::Stream>(stream)));
}

extern "C" __attribute__((visibility("default"))) int prepare() {
  return static_cast<int>(rms_deploy::cuda::prepare());
}
