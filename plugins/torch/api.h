// The C interface of librms_deploy_torch.so: the norms of torch's eager mode, forward and backward, called from Python
// through ctypes. rms_deploy/ops/torch_kernels.py declares the same; the version says whether they agree. It changes
// with every change of a struct or signature.
//
// Tensors are pointers to contiguous memory. Nothing is kept after a call, which may come from any thread.
#pragma once

#include <cstdint>

#define RMS_DEPLOY_EXPORT __attribute__((visibility("default")))

extern "C" {

inline constexpr int32_t kRmsDeployTorchVersion = 3;

// What stays the same from call to call. The tensor is seen as (outer, n, inner), normalised over n.
struct RmsDeployTorchNorm {
  int64_t n;
  int64_t inner;
  int64_t statistics_size;     // the mean is over the first of the n
  int32_t type;                // of all tensors but scale: contract::ElementType
  int32_t scale_type;          // that type or float32
  int32_t scalar_scale;        // scale has one element, not n
  int32_t round_before_scale;  // x / rms and scale are rounded to `type`, then multiplied
  int32_t round_reciprocal;    // with it: 1 / rms is rounded to `type`, and x multiplied by that
  float epsilon;
  float rms_epsilon;
  float rms_min;
};

// kRmsDeployTorchVersion of the library.
RMS_DEPLOY_EXPORT int32_t rms_deploy_torch_version();

// Null; or why no kernel runs on this machine.
RMS_DEPLOY_EXPORT const char* rms_deploy_torch_problem();

// y. With a residual: sum = x + residual, rounded, and y of it; `sum` is then not null.
// 0; or 1: the memory for scratch is lacking, or there is a problem (see above), and the outputs are undefined.
RMS_DEPLOY_EXPORT int32_t rms_deploy_torch_forward(const RmsDeployTorchNorm* norm, int64_t outer, int32_t threads,
                                                   const void* x, const void* residual, const void* scale, void* y,
                                                   void* sum);

// grad_x, grad_scale, each null where it is not wanted. x is what was normalised (with a residual, the sum), of which
// grad_sum (or null) is another gradient: grad_x is that of x and of the residual. 0 or 1, as above.
RMS_DEPLOY_EXPORT int32_t rms_deploy_torch_backward(const RmsDeployTorchNorm* norm, int64_t outer, int32_t threads,
                                                    const void* x, const void* scale, const void* grad_y,
                                                    const void* grad_sum, void* grad_x, void* grad_scale);

// On an NVIDIA GPU. These are absent where the library was built without a CUDA compiler. The tensors are in the memory
// of the current device, whose primary context is current. A call enqueues kernels on `stream` (a cudaStream_t), and
// allocates and waits for nothing. A result that is not 0 is an error: see rms_deploy_torch_cuda_text.

// Loads every kernel for the current device, so that no call loads one while a stream is captured.
RMS_DEPLOY_EXPORT int32_t rms_deploy_torch_cuda_prepare();

// What an error means, in one line.
RMS_DEPLOY_EXPORT const char* rms_deploy_torch_cuda_text(int32_t error);

// Sets `bytes` to those of workspace that grad_scale needs on a device. Only norms with inner = 1 have a backward pass
// here.
RMS_DEPLOY_EXPORT int32_t rms_deploy_torch_cuda_workspace(const RmsDeployTorchNorm* norm, int64_t outer, int32_t device,
                                                          int64_t* bytes);

// As rms_deploy_torch_forward.
RMS_DEPLOY_EXPORT int32_t rms_deploy_torch_cuda_forward(const RmsDeployTorchNorm* norm, int64_t outer, void* stream,
                                                        const void* x, const void* residual, const void* scale, void* y,
                                                        void* sum);

// As rms_deploy_torch_backward. `workspace` is memory of the device, aligned to 16 bytes; null without grad_scale.
RMS_DEPLOY_EXPORT int32_t rms_deploy_torch_cuda_backward(const RmsDeployTorchNorm* norm, int64_t outer, void* stream,
                                                         const void* x, const void* scale, const void* grad_y,
                                                         const void* grad_sum, void* grad_x, void* grad_scale,
                                                         void* workspace);

}  // extern "C"
