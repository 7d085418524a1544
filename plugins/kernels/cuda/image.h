// The kernels as the compiler left them: machine code for each GPU, and PTX for those that come later.
#pragma once

namespace rms_deploy::cuda {

// Fat binaries, as the driver takes them: of the norms; and of their gradients, which torch's library alone has.
const void* image();
const void* gradient_image();

}  // namespace rms_deploy::cuda

// The assembler puts a file here, under a name that is this library's own. The driver reads 8 bytes at a time.
#define RMS_DEPLOY_EMBED(name, file) \
  __asm__(                           \
      ".pushsection .rodata\n"       \
      ".balign 64\n"                 \
      ".local " #name "\n" #name     \
      ":\n"                          \
      ".incbin \"" file              \
      "\"\n"                         \
      ".popsection\n");              \
  extern "C" __attribute__((visibility("hidden"))) const char name[]
