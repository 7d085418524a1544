// The kernels as the compiler left them: machine code for each GPU, and PTX for those that come later.
#pragma once

namespace rms_deploy::cuda {

// A fat binary, as the driver takes it.
const void* image();

}  // namespace rms_deploy::cuda
