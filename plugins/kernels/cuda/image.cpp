#include "kernels/cuda/image.h"

RMS_DEPLOY_EMBED(rms_deploy_cuda_image, RMS_DEPLOY_CUDA_IMAGE);

namespace rms_deploy::cuda {

const void* image() { return rms_deploy_cuda_image; }

}  // namespace rms_deploy::cuda
