// NVIDIA's driver, opened at run time: nothing here links to CUDA, so one library serves every driver from the one that
// CMake compiles for on.
//
// The driver's interface is append-only: a function keeps its name and its arguments. These are the ones that the
// kernels need, in our own words; tests/plugins/kernels/cuda/test_driver.py compares them with the official header.
#pragma once

#include <cstdint>
#include <string>

struct CUctx_st;
struct CUfunc_st;
struct CUkern_st;
struct CUlaunchConfig_st;
struct CUlib_st;
struct CUstream_st;

namespace rms_deploy::cuda {

// A CUresult of the driver; or kDriver: there is none that the kernels can use.
enum class Error : int32_t { kDriver = -1, kNone = 0, kInvalidValue = 1, kNotInitialized = 3 };

inline constexpr int kMultiprocessorCount = 16;  // of CUdevice_attribute
inline constexpr int kMaxSharedBytes = 97;       // the same; of a block that asks for more than 48 KB
inline constexpr int kMaxThreadsPerBlock = 0;    // of CUfunction_attribute
inline constexpr int kPtxVersion = 5;            // the same; such as 90: of the PTX that the code was made of
inline constexpr int kDynamicSharedBytes = 8;    // the same
inline constexpr int kProgrammaticLaunch = 6;    // of CUlaunchAttributeID

// A CUlaunchAttribute, and a CUlaunchConfig, which is what cuLaunchKernelEx takes.
struct LaunchAttribute {
  int id;
  alignas(8) int value;
  char rest[60];
};

struct LaunchConfig {
  unsigned grid_x, grid_y, grid_z;
  unsigned block_x, block_y, block_z;
  unsigned shared_bytes;
  CUstream_st* stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};

// name, arguments
#define RMS_DEPLOY_CUDA_FUNCTIONS(F)                                                                              \
  F(cuCtxGetCurrent, (CUctx_st * *context))                                                                       \
  F(cuCtxGetDevice, (int* device))                                                                                \
  F(cuCtxSetCurrent, (CUctx_st * context))                                                                        \
  F(cuDeviceGet, (int* device, int ordinal))                                                                      \
  F(cuDeviceGetAttribute, (int* value, int attribute, int device))                                                \
  F(cuDevicePrimaryCtxRetain, (CUctx_st * *context, int device))                                                  \
  F(cuDriverGetVersion, (int* version))                                                                           \
  F(cuFuncGetAttribute, (int* value, int attribute, CUfunc_st* function))                                         \
  F(cuGetErrorString, (Error error, const char** text))                                                           \
  F(cuInit, (unsigned flags))                                                                                     \
  F(cuKernelGetAttribute, (int* value, int attribute, CUkern_st* kernel, int device))                             \
  F(cuKernelGetFunction, (CUfunc_st * *function, CUkern_st * kernel))                                             \
  F(cuKernelSetAttribute, (int attribute, int value, CUkern_st* kernel, int device))                              \
  F(cuLaunchKernelEx, (const CUlaunchConfig_st* config, CUfunc_st* function, void** arguments, void** extra))     \
  F(cuLibraryGetKernel, (CUkern_st * *kernel, CUlib_st * library, const char* name))                              \
  F(cuLibraryLoadData, (CUlib_st * *library, const void* image, int* jit_options, void** jit_values,              \
                        unsigned jit_count, int* library_options, void** library_values, unsigned library_count)) \
  F(cuLibraryUnload, (CUlib_st * library))

struct Driver {
#define RMS_DEPLOY_CUDA_MEMBER(name, arguments) Error(*name) arguments = nullptr;
  RMS_DEPLOY_CUDA_FUNCTIONS(RMS_DEPLOY_CUDA_MEMBER)
#undef RMS_DEPLOY_CUDA_MEMBER
  std::string problem;  // why it cannot be used, in one line; empty: it can
  int process = 0;      // that opened it
};

// Opened and initialised by the first call.
const Driver& driver();

// In one line, which lives as long as this library.
const char* text_of(Error error);

}  // namespace rms_deploy::cuda
