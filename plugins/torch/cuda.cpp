// The shell of the CUDA kernels.
#include "kernels/cuda/gradient.h"
#include "kernels/cuda/norm.h"
#include "torch/api.h"
#include "torch/problem.h"

namespace cuda = rms_deploy::cuda;
using rms_deploy::torch::problem_of;

extern "C" {

int32_t rms_deploy_torch_cuda_prepare() {
  const cuda::Error error = cuda::prepare();
  return static_cast<int32_t>(error != cuda::Error::kNone ? error : cuda::prepare_gradient());
}

const char* rms_deploy_torch_cuda_text(int32_t error) { return cuda::text_of(static_cast<cuda::Error>(error)); }

int32_t rms_deploy_torch_cuda_workspace(const RmsDeployTorchNorm* norm, int64_t outer, int32_t device, int64_t* bytes) {
  const rms_deploy::Problem p = problem_of(*norm, outer, nullptr, nullptr);
  return static_cast<int32_t>(cuda::find_workspace_size(p, device, *bytes));
}

int32_t rms_deploy_torch_cuda_forward(const RmsDeployTorchNorm* norm, int64_t outer, void* stream, const void* x,
                                      const void* residual, const void* scale, void* y, void* sum) {
  rms_deploy::Problem p = problem_of(*norm, outer, x, scale);
  p.operand = residual;
  p.y = y;
  p.sum = sum;
  return static_cast<int32_t>(cuda::launch(p, cuda::kAutomatic, static_cast<cuda::Stream>(stream)));
}

int32_t rms_deploy_torch_cuda_backward(const RmsDeployTorchNorm* norm, int64_t outer, void* stream, const void* x,
                                       const void* scale, const void* grad_y, const void* grad_sum, void* grad_x,
                                       void* grad_scale, void* workspace) {
  cuda::Gradient gradient;
  gradient.norm = problem_of(*norm, outer, x, scale);
  gradient.grad_y = grad_y;
  gradient.grad_sum = grad_sum;
  gradient.grad_x = grad_x;
  gradient.grad_scale = grad_scale;
  return static_cast<int32_t>(cuda::launch(gradient, workspace, static_cast<cuda::Stream>(stream)));
}

}  // extern "C"
