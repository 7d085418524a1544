// What the tests call, on a GPU and on the CPU: one norm over buffers in host memory.
#include <cstring>
#include <initializer_list>

#include "buffers.h"
#include "kernels/cuda/norm.h"

using rms_deploy::Problem;

extern "C" {

struct Options {
  int32_t type;
  int32_t scale_type;
  int32_t sum_type;
  int32_t quantized_type;  // 0: none
  int64_t outer;
  int64_t n;
  int64_t inner;
  int64_t statistics_size;
  int32_t scale_rows;
  int32_t scale_repeat;
  int32_t scalar_scale;
  int32_t round_before_scale;
  int32_t round_reciprocal;
  int32_t round_quotient;
  int32_t normalizes_float32_sum;
  int32_t gate;  // of contract::Gate
  float epsilon;
  float rms_epsilon;
  float rms_min;
  float y_scale;
  int32_t tactic;
  int32_t y_is;    // 0: of its own; 1: x; 2: residual or z
  int32_t sum_is;  // the same
};

static Problem problem_of(const Options& o) {
  Problem p;
  p.type = static_cast<rms_deploy::contract::ElementType>(o.type);
  p.scale_type = static_cast<rms_deploy::contract::ElementType>(o.scale_type);
  p.sum_type = static_cast<rms_deploy::contract::ElementType>(o.sum_type);
  p.quantized_type = static_cast<rms_deploy::contract::QuantizedType>(o.quantized_type);
  p.outer = o.outer;
  p.n = o.n;
  p.inner = o.inner;
  p.statistics_size = o.statistics_size;
  p.scale_rows = o.scale_rows;
  p.scale_repeat = o.scale_repeat;
  p.scalar_scale = o.scalar_scale != 0;
  p.round_before_scale = o.round_before_scale != 0;
  p.round_reciprocal = o.round_reciprocal != 0;
  p.round_quotient = o.round_quotient != 0;
  p.normalizes_float32_sum = o.normalizes_float32_sum != 0;
  p.gate = static_cast<rms_deploy::contract::Gate>(o.gate);
  p.epsilon = o.epsilon;
  p.rms_epsilon = o.rms_epsilon;
  p.rms_min = o.rms_min;
  p.y_scale = o.y_scale;
  return p;
}

// `buffers`: x, residual or z, scale, shift, y, sum. Returns a rms_deploy::cuda::Error.
__attribute__((visibility("default"))) int run(const Options* options, const Buffer* buffers) {
  if (const int error = static_cast<int>(rms_deploy::cuda::prepare())) {  // makes a context, which memory needs
    return error;
  }
  const OnDevice x(buffers[0]), operand(buffers[1]), scale(buffers[2]), shift(buffers[3]);
  const OnDevice y(buffers[4]), sum(buffers[5]);
  for (const OnDevice* buffer : {&x, &operand, &scale, &shift, &y, &sum}) {
    if (buffer->error() != 0) {
      return buffer->error();
    }
  }
  Problem p = problem_of(*options);
  void* const tensors[] = {y.tensor(), x.tensor(), operand.tensor()};
  p.x = x.tensor();
  p.operand = operand.tensor();
  p.scale = scale.tensor();
  p.shift = shift.tensor();
  p.y = tensors[options->y_is];
  p.sum = options->sum_is == 0 ? sum.tensor() : tensors[options->sum_is];
  for (const int error :
       {static_cast<int>(rms_deploy::cuda::launch(p, options->tactic, nullptr)), device::synchronize()}) {
    if (error != 0) {
      return error;
    }
  }
  for (const OnDevice* buffer : {&x, &operand, &scale, &shift, &y, &sum}) {
    if (const int error = buffer->copy_back()) {
      return error;
    }
  }
  return 0;
}

// What an error of `run` means.
__attribute__((visibility("default"))) const char* text_of(int error) {
  return rms_deploy::cuda::text_of(static_cast<rms_deploy::cuda::Error>(error));
}

__attribute__((visibility("default"))) int find_tactics(const Options* options, int32_t* found) {
  rms_deploy::cuda::Tactic all[rms_deploy::cuda::kMaxTactics];
  const int32_t count = rms_deploy::cuda::tactics(problem_of(*options), all);
  std::memcpy(found, all, sizeof(int32_t) * static_cast<size_t>(count));
  return count;
}
}
