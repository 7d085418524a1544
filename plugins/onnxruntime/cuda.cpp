// The ops on ONNX Runtime's CUDA provider.
#include <stdexcept>
#include <string>

#include "kernels/cuda/norm.h"
#include "onnxruntime/error.h"
#include "onnxruntime/provider.h"

namespace rms_deploy::ort {

namespace {

// All tensors are in the device's memory. The launch is enqueued on the stream of the session's run.
class CudaKernel : public Kernel {
 public:
  CudaKernel(const Api& api, const KernelInfo* info, const Kind& kind, const Types& types)
      : Kernel(api, info, kind, types) {
    if (is_promoted()) {
      throw Error(node().label + ": scale_type is " + std::to_string(node().scale_type) +
                  " and X is float32, which the CPU provider alone takes; use 1 (float32)");
    }
    // The kernels are loaded here, not by the first run: a driver that is too old, or a GPU that there is no code for,
    // is an error of the session, and no run loads a kernel while ONNX Runtime captures it into a CUDA graph.
    require(cuda::prepare(), "the kernels cannot be loaded");
  }

 private:
  void run(KernelContext* context, const Problem& problem) const override {
    void* stream = nullptr;
    check(api().KernelContext_GetGPUComputeStream(context, &stream));
    require(cuda::launch(problem, cuda::kAutomatic, static_cast<cuda::Stream>(stream)), "the launch failed");
  }

  void require(cuda::Error error, const char* otherwise) const {
    if (error != cuda::Error::kNone) {
      throw std::runtime_error(node().label + ": " + otherwise + ": " + cuda::text_of(error));
    }
  }
};

}  // namespace

Provider cuda_provider() {
  return {"CUDAExecutionProvider", [](auto&&... arguments) { return std::make_unique<CudaKernel>(arguments...); }};
}

}  // namespace rms_deploy::ort
