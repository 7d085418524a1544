// The kernels of the backward pass, under the names by which gradient_launch.cpp finds them in the compiled image.
#include "kernels/cuda/gradient_any_rows.cuh"
#include "kernels/cuda/gradient_rows.cuh"
#include "kernels/cuda/gradient_scale.cuh"

namespace rms_deploy::cuda {

#define RMS_DEPLOY_GRADIENT(name, body, threads) \
  extern "C" __global__ void __launch_bounds__(threads) name(const GradientArguments arguments) { body(arguments); }

#define RMS_DEPLOY_GRADIENTS_OF(type, T)                                                   \
  RMS_DEPLOY_GRADIENT(gradient_rows_##type, gradient_rows<T>, kGradientThreads)            \
  RMS_DEPLOY_GRADIENT(gradient_any_rows_##type, gradient_any_rows<T>, kAnyGradientThreads) \
  RMS_DEPLOY_GRADIENT(gradient_any_scale_##type, gradient_any_scale<T>, kWarp* kScaleRows) \
  RMS_DEPLOY_GRADIENT(gradient_reduce_##type, gradient_reduce<T>, kWarp* kReduceRows)

RMS_DEPLOY_GRADIENTS_OF(float32, float)
RMS_DEPLOY_GRADIENTS_OF(float16, Float16)
RMS_DEPLOY_GRADIENTS_OF(bfloat16, BFloat16)

}  // namespace rms_deploy::cuda
