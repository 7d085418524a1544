// The compiled kernels in the driver's hands.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "contract.h"
#include "kernels/cuda/driver.h"

namespace rms_deploy::cuda {

using Kernel = CUkern_st*;

// An image and its kernels. One per process: a CUkernel is valid in every context, also in those that are made later.
class Library {
 public:
  struct Named {
    Kernel* kernel;  // set by `load`
    std::string name;
  };

  Library(const void* image, std::vector<Named> kernels) : image_(image), kernels_(std::move(kernels)) {}
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  // Sets the kernels, and gives a thread that has no CUDA context one. The first call hands the image to the driver,
  // which loads it into each context that needs it. What fails is tried again by the next call: the device may have had
  // no memory left.
  [[nodiscard]] Error load();

 private:
  Error load_image();

  const void* image_;
  std::vector<Named> kernels_;
  std::mutex mutex_;
  std::atomic<bool> is_loaded_{false};
  CUlib_st* library_ = nullptr;
};

// Loads a kernel into the current context, so that no launch does it during a capture.
[[nodiscard]] Error load_into_context(Kernel kernel);

// Enqueues a kernel, in the stream's context.
[[nodiscard]] Error launch_kernel(Kernel kernel, const LaunchConfig& config, void* argument);

// 0, 1, 2: of float32, float16, bfloat16, under which names the images have their kernels.
inline constexpr const char* kTypeNames[] = {"float32", "float16", "bfloat16"};

constexpr int index_of(contract::ElementType type) {
  return type == contract::ElementType::kFloat32 ? 0 : type == contract::ElementType::kFloat16 ? 1 : 2;
}

// The kernels of one element type.
struct Kernels {
  Kernel rows[4];  // 1, 2, 4, 8 packs per thread
  Kernel shared_rows;
  Kernel any_rows;
  Kernel gated_rows;
  Kernel gated_any_rows;
  Kernel general_rows;
  Kernel general_any_rows;
  Kernel columns[4];  // 16, 8, 4, 2 bytes per access; of float32 without the last
};

// Sets `kernels` to those of a type, loaded as above.
[[nodiscard]] Error find_kernels(contract::ElementType type, const Kernels*& kernels);

}  // namespace rms_deploy::cuda
