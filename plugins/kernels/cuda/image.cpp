#include "kernels/cuda/image.h"

// The assembler puts the file RMS_DEPLOY_CUDA_IMAGE here. The driver reads 8 bytes at a time.
__asm__(
    ".pushsection .rodata\n"
    ".balign 64\n"
    ".local rms_deploy_cuda_image\n"
    "rms_deploy_cuda_image:\n"
    ".incbin \"" RMS_DEPLOY_CUDA_IMAGE
    "\"\n"
    ".popsection\n");

extern "C" __attribute__((visibility("hidden"))) const char rms_deploy_cuda_image[];

namespace rms_deploy::cuda {

const void* image() { return rms_deploy_cuda_image; }

}  // namespace rms_deploy::cuda
