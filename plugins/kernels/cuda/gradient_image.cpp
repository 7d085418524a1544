#include "kernels/cuda/image.h"

RMS_DEPLOY_EMBED(rms_deploy_cuda_gradient_image, RMS_DEPLOY_CUDA_GRADIENT_IMAGE);

namespace rms_deploy::cuda {

const void* gradient_image() { return rms_deploy_cuda_gradient_image; }

}  // namespace rms_deploy::cuda
