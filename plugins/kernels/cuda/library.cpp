#include "kernels/cuda/library.h"

#include "kernels/cuda/image.h"

namespace rms_deploy::cuda {

namespace {

// As the CUDA runtime does it: a thread without a context gets the primary context of the first GPU.
Error require_context() {
  CUctx_st* context = nullptr;
  Error error = driver().cuCtxGetCurrent(&context);
  if (error != Error::kNone || context != nullptr) {
    return error;
  }
  int device = 0;
  error = driver().cuDeviceGet(&device, 0);
  error = error != Error::kNone ? error : driver().cuDevicePrimaryCtxRetain(&context, device);
  return error != Error::kNone ? error : driver().cuCtxSetCurrent(context);
}

std::vector<Library::Named> named(Kernels (&kernels)[3]) {
  std::vector<Library::Named> all;
  for (int i = 0; i < 3; ++i) {
    Kernels& of_type = kernels[i];
    const std::string type = kTypeNames[i];
    all.insert(all.end(), {{&of_type.rows[0], "norm_rows_1_" + type},
                           {&of_type.rows[1], "norm_rows_2_" + type},
                           {&of_type.rows[2], "norm_rows_4_" + type},
                           {&of_type.rows[3], "norm_rows_8_" + type},
                           {&of_type.any_rows, "norm_any_rows_" + type},
                           {&of_type.gated_rows, "norm_gated_rows_" + type},
                           {&of_type.gated_any_rows, "norm_gated_any_rows_" + type},
                           {&of_type.general_rows, "norm_general_rows_" + type},
                           {&of_type.general_any_rows, "norm_general_any_rows_" + type},
                           {&of_type.shared_rows, "norm_shared_rows_" + type},
                           {&of_type.columns[0], "norm_columns_16_" + type},
                           {&of_type.columns[1], "norm_columns_8_" + type},
                           {&of_type.columns[2], "norm_columns_4_" + type}});
    if (type != "float32") {
      all.push_back({&of_type.columns[3], "norm_columns_2_" + type});
    }
  }
  return all;
}

}  // namespace

// A host may close this library while the process goes on. At the end of the process the driver may be gone; it says
// so, and there is nothing to do.
Library::~Library() {
  if (library_ != nullptr) {
    static_cast<void>(driver().cuLibraryUnload(library_));
  }
}

Error Library::load() {
  if (!driver().problem.empty()) {
    return Error::kDriver;
  }
  Error error = require_context();
  if (error != Error::kNone || is_loaded_.load(std::memory_order_acquire)) {
    return error;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_loaded_.load(std::memory_order_relaxed)) {
    return Error::kNone;
  }
  error = load_image();
  for (const Named& named : kernels_) {
    error = error != Error::kNone ? error : driver().cuLibraryGetKernel(named.kernel, library_, named.name.c_str());
  }
  is_loaded_.store(error == Error::kNone, std::memory_order_release);
  return error;
}

Error Library::load_image() {
  if (library_ != nullptr) {
    return Error::kNone;
  }
  CUlib_st* library = nullptr;
  const Error error = driver().cuLibraryLoadData(&library, image_, nullptr, nullptr, 0, nullptr, nullptr, 0);
  library_ = error == Error::kNone ? library : nullptr;
  return error;
}

// Asking for this attribute makes the driver load the kernel.
Error load_into_context(Kernel kernel) {
  CUfunc_st* function = nullptr;
  int threads = 0;
  const Error error = driver().cuKernelGetFunction(&function, kernel);
  return error != Error::kNone ? error : driver().cuFuncGetAttribute(&threads, kMaxThreadsPerBlock, function);
}

Error launch_kernel(Kernel kernel, const LaunchConfig& config, void* argument) {
  // A CUkernel in the place of a function is launched in the stream's context.
  CUfunc_st* function = reinterpret_cast<CUfunc_st*>(kernel);
  return driver().cuLaunchKernelEx(reinterpret_cast<const CUlaunchConfig_st*>(&config), function, &argument, nullptr);
}

Error find_kernels(contract::ElementType type, const Kernels*& kernels) {
  static Kernels all[3] = {};
  static Library library(image(), named(all));
  kernels = &all[index_of(type)];
  return library.load();
}

}  // namespace rms_deploy::cuda
