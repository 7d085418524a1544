// The execution providers that the library has kernels for.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "onnxruntime/kernel.h"

namespace rms_deploy::ort {

struct Provider {
  const char* name;  // as ONNX Runtime calls it; null: the CPU provider
  // Throws Error for a wrong attribute.
  std::function<std::unique_ptr<Kernel>(const Api& api, const KernelInfo* info, const Kind& kind, const Types& types)>
      make_kernel;
};

// Throws Error if the environment asks for an instruction-set level that this machine does not have.
Provider cpu_provider();

Provider cuda_provider();  // where the library is built with CUDA

// The providers of this build.
std::vector<Provider> providers();

}  // namespace rms_deploy::ort
