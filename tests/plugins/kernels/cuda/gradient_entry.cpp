// What the tests call of the backward pass: torch's shell, over buffers in host memory.
#include <initializer_list>

#include "buffers.h"
#include "torch/api.h"

extern "C" {

// `buffers`: x, scale, grad_y, grad_sum, grad_x, grad_scale, workspace. Returns a rms_deploy::cuda::Error.
__attribute__((visibility("default"))) int run_gradient(const RmsDeployTorchNorm* norm, int64_t outer,
                                                        const Buffer* buffers) {
  if (const int error = rms_deploy_torch_cuda_prepare()) {  // makes a context, which memory needs
    return error;
  }
  const OnDevice x(buffers[0]), scale(buffers[1]), grad_y(buffers[2]), grad_sum(buffers[3]), grad_x(buffers[4]),
      grad_scale(buffers[5]), workspace(buffers[6]);
  const OnDevice* const all[] = {&x, &scale, &grad_y, &grad_sum, &grad_x, &grad_scale, &workspace};
  for (const OnDevice* buffer : all) {
    if (buffer->error() != 0) {
      return buffer->error();
    }
  }
  for (const int error :
       {rms_deploy_torch_cuda_backward(norm, outer, nullptr, x.tensor(), scale.tensor(), grad_y.tensor(),
                                       grad_sum.tensor(), grad_x.tensor(), grad_scale.tensor(), workspace.tensor()),
        device::synchronize()}) {
    if (error != 0) {
      return error;
    }
  }
  for (const OnDevice* buffer : all) {
    if (const int error = buffer->copy_back()) {
      return error;
    }
  }
  return 0;
}
}
