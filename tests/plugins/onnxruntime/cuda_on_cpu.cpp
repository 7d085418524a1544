// The CUDA ops in the place of the CPU ops, for kernels that are compiled for the CPU.
#include "onnxruntime/provider.h"

namespace rms_deploy::ort {

std::vector<Provider> providers() { return {{nullptr, cuda_provider().make_kernel}}; }

}  // namespace rms_deploy::ort
