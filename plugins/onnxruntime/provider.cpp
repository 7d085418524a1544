#include "onnxruntime/provider.h"

namespace rms_deploy::ort {

std::vector<Provider> providers() {
  return {
      cpu_provider(),
#ifdef RMS_DEPLOY_HAS_CUDA
      cuda_provider(),
#endif
  };
}

}  // namespace rms_deploy::ort
