#include "kernels/cuda/driver.h"

#include <dlfcn.h>
#include <unistd.h>

#if !defined(RMS_DEPLOY_LIBCUDA)  // by the tests
#define RMS_DEPLOY_LIBCUDA "libcuda.so.1"
#endif

namespace rms_deploy::cuda {

namespace {

// As cuDriverGetVersion counts: 1000 * major + 10 * minor.
constexpr int kOldest = RMS_DEPLOY_CUDA_DRIVER;
constexpr int kOldestRelease = kOldest < 13000 ? 525 : 580;

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string why_not(const Driver& driver, Error error) {
  const char* text = nullptr;
  static_cast<void>(driver.cuGetErrorString(error, &text));
  return std::string("the NVIDIA driver does not start: ") + (text == nullptr ? "unknown error" : text) +
         " (CUresult " + std::to_string(static_cast<int32_t>(error)) + ")";
}

std::string problem_of(Driver& driver) {
  void* library = dlopen(RMS_DEPLOY_LIBCUDA, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return std::string("there is no NVIDIA driver: ") + dlerror();
  }
  const char* missing = nullptr;
#define RMS_DEPLOY_CUDA_FIND(name, arguments)                                   \
  driver.name = reinterpret_cast<decltype(driver.name)>(dlsym(library, #name)); \
  missing = driver.name == nullptr ? #name : missing;
  RMS_DEPLOY_CUDA_FUNCTIONS(RMS_DEPLOY_CUDA_FIND)
#undef RMS_DEPLOY_CUDA_FIND
  int version = 0;
  if (driver.cuDriverGetVersion != nullptr && driver.cuDriverGetVersion(&version) == Error::kNone &&
      version < kOldest) {
    return "the NVIDIA driver is for CUDA " + version_text(version) + ", and the kernels need CUDA " +
           version_text(kOldest) + "; install driver " + std::to_string(kOldestRelease) + " or newer";
  }
  if (missing != nullptr) {
    return std::string("the NVIDIA driver (CUDA ") + version_text(version) + ") has no function " + missing;
  }
  const Error error = driver.cuInit(0);
  return error == Error::kNone ? "" : why_not(driver, error);
}

Driver opened() {
  Driver driver;
  driver.process = getpid();
  driver.problem = problem_of(driver);
  return driver;
}

}  // namespace

const Driver& driver() {
  static const Driver driver = opened();
  return driver;
}

const char* text_of(Error error) {
  const Driver& here = driver();
  if (error == Error::kDriver) {
    return here.problem.c_str();
  }
  if (error == Error::kNotInitialized && here.process != getpid()) {
    return "CUDA was in use before this process was forked; start the process with spawn instead of fork";
  }
  const char* text = nullptr;
  static_cast<void>(here.cuGetErrorString(error, &text));
  return text == nullptr ? "unknown error" : text;
}

}  // namespace rms_deploy::cuda
