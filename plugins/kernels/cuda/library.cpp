#include "kernels/cuda/library.h"

#include <atomic>
#include <mutex>

#include "kernels/cuda/image.h"

namespace rms_deploy::cuda {

namespace {

int index_of(contract::ElementType type) {
  return type == contract::ElementType::kFloat32 ? 0 : type == contract::ElementType::kFloat16 ? 1 : 2;
}

// One per process. A CUkernel is valid in every context, also in those that are made later.
class Library {
 public:
  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  // A host may close this library while the process goes on. At the end of the process the driver may be gone; it says
  // so, and there is nothing to do.
  ~Library() {
    if (library_ != nullptr) {
      static_cast<void>(driver().cuLibraryUnload(library_));
    }
  }

  // What fails is tried again by the next call: the device may have had no memory left.
  Error load() {
    if (is_loaded_.load(std::memory_order_acquire)) {
      return Error::kNone;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_loaded_.load(std::memory_order_relaxed)) {
      return Error::kNone;
    }
    Error error = load_image();
    const char* types[] = {"float32", "float16", "bfloat16"};
    for (int i = 0; i < 3 && error == Error::kNone; ++i) {
      error = find(types[i], kernels_[i]);
    }
    is_loaded_.store(error == Error::kNone, std::memory_order_release);
    return error;
  }

  const Kernels& kernels(contract::ElementType type) const { return kernels_[index_of(type)]; }

 private:
  Error load_image() {
    if (library_ != nullptr) {
      return Error::kNone;
    }
    CUlib_st* library = nullptr;
    const Error error = driver().cuLibraryLoadData(&library, image(), nullptr, nullptr, 0, nullptr, nullptr, 0);
    library_ = error == Error::kNone ? library : nullptr;
    return error;
  }

  Error find(const char* type, Kernels& kernels) {
    const struct {
      Kernel& kernel;
      const char* name;
    } wanted[] = {{kernels.rows[0], "norm_rows_1_"},        {kernels.rows[1], "norm_rows_2_"},
                  {kernels.rows[2], "norm_rows_4_"},        {kernels.rows[3], "norm_rows_8_"},
                  {kernels.any_rows, "norm_any_rows_"},     {kernels.shared_rows, "norm_shared_rows_"},
                  {kernels.columns[0], "norm_columns_16_"}, {kernels.columns[1], "norm_columns_8_"},
                  {kernels.columns[2], "norm_columns_4_"},  {kernels.columns[3], "norm_columns_2_"}};
    for (const auto& [kernel, name] : wanted) {
      if (&kernel == &kernels.columns[3] && std::string(type) == "float32") {
        continue;
      }
      const Error error = driver().cuLibraryGetKernel(&kernel, library_, (std::string(name) + type).c_str());
      if (error != Error::kNone) {
        return error;
      }
    }
    return Error::kNone;
  }

  std::mutex mutex_;
  std::atomic<bool> is_loaded_{false};
  CUlib_st* library_ = nullptr;
  Kernels kernels_[3] = {};
};

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

}  // namespace

Error find_kernels(contract::ElementType type, const Kernels*& kernels) {
  if (!driver().problem.empty()) {
    return Error::kDriver;
  }
  static Library library;
  Error error = require_context();
  error = error != Error::kNone ? error : library.load();
  kernels = &library.kernels(type);
  return error;
}

}  // namespace rms_deploy::cuda
