// Which kernels compute a gradient, with which grids.
#include <algorithm>

#include "kernels/cuda/gradient.h"
#include "kernels/cuda/gradient_kernels.h"
#include "kernels/cuda/image.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/sizes.h"

namespace rms_deploy::cuda {

namespace {

constexpr int64_t kBlockThreads = 256;     // of a block of several rows
constexpr int64_t kThreadsPerSM = 1024;    // of 64 registers each
constexpr int64_t kElementsPerThread = 8;  // of a row that is read element by element
constexpr int64_t kScaleBlocksPerSM = 8;   // of gradient_any_scale
constexpr int64_t kDivisorBytes = 2 * sizeof(float);

struct GradientKernels {
  Kernel rows;
  Kernel any_rows;
  Kernel any_scale;
  Kernel reduce;
};

Error find_kernels(const GradientKernels*& kernels) {
  static GradientKernels all[3] = {};
  static Library library(gradient_image(), [] {
    std::vector<Library::Named> named;
    for (int i = 0; i < 3; ++i) {
      const std::string type = kTypeNames[i];
      named.insert(named.end(), {{&all[i].rows, "gradient_rows_" + type},
                                 {&all[i].any_rows, "gradient_any_rows_" + type},
                                 {&all[i].any_scale, "gradient_any_scale_" + type},
                                 {&all[i].reduce, "gradient_reduce_" + type}});
    }
    return named;
  }());
  kernels = all;
  return library.load();
}

struct Launch {
  Kernel kernel = nullptr;
  int64_t grid_x = 1;
  int64_t grid_y = 1;
  int64_t block_x = 1;
  int64_t block_y = 1;
  int64_t shared_bytes = 0;
};

// The blocks of gradient_rows or gradient_any_rows: as many as a GPU holds at once.
void set_blocks(Launch& launch, const Problem& p, int64_t threads, int64_t multiprocessors) {
  launch.block_x = threads;
  launch.block_y = threads <= kWarp ? kBlockThreads / threads : 1;
  const int64_t held = multiprocessors * (kThreadsPerSM / (launch.block_x * launch.block_y));
  launch.grid_x = std::min(ceil_div(p.outer, launch.block_y), held);
}

bool holds_row(const Problem& p) {
  const int64_t bytes = p.n * bytes_of(p.type);
  return bytes % kPackBytes == 0 && bytes / kPackBytes <= int64_t{kGradientVectors} * kGradientThreads;
}

// A grid row of it, along x, is one share of grad_scale.
Launch launch_of_rows(const Problem& p, int64_t multiprocessors) {
  Launch launch;
  const int64_t packs = p.n * bytes_of(p.type) / kPackBytes;
  set_blocks(launch, p, threads_per_row(packs, kGradientVectors), multiprocessors);
  launch.shared_bytes = launch.block_y > 1 ? launch.block_y * p.n * static_cast<int64_t>(sizeof(float)) : 0;
  return launch;
}

Launch launch_of_any_rows(const Problem& p, int64_t multiprocessors) {
  Launch launch;
  const int64_t threads = threads_per_row(p.n, kElementsPerThread);
  set_blocks(launch, p, std::min<int64_t>(threads, kAnyGradientThreads), multiprocessors);
  return launch;
}

// A grid row of it, along y, is one share of grad_scale.
Launch launch_of_any_scale(const Problem& p, int64_t multiprocessors) {
  Launch launch;
  launch.block_x = kWarp;
  launch.block_y = kScaleRows;
  launch.grid_x = ceil_div(p.n, kWarp);
  const int64_t parts = std::max<int64_t>(multiprocessors * kScaleBlocksPerSM / launch.grid_x, 1);
  launch.grid_y = std::min(parts, ceil_div(p.outer, kScaleRows));
  return launch;
}

// What lies in the workspace, one after the other: the shares of grad_scale; 1 / r of each row, where the rows are not
// held; and what is added up once more, where scale has one element.
struct Workspace {
  int64_t shares;
  int64_t divisors;
  int64_t totals;

  Workspace(const Problem& p, int64_t parts, bool holds)
      : shares(rounded_up(parts * p.n * sizeof(float))),
        divisors(holds ? 0 : rounded_up(p.outer * kDivisorBytes)),
        totals(p.scalar_scale ? rounded_up(p.n * sizeof(float)) : 0) {}

  int64_t bytes() const { return shares + divisors + totals; }

 private:
  static int64_t rounded_up(int64_t bytes) { return ceil_div(bytes, kPackBytes) * kPackBytes; }
};

// All rows start at a multiple of 16 bytes.
bool is_aligned(const Gradient& g) {
  bool aligned = g.norm.scalar_scale || reinterpret_cast<uintptr_t>(g.norm.scale) % kPackBytes == 0;
  for (const void* tensor : {g.norm.x, g.grad_y, g.grad_sum, static_cast<const void*>(g.grad_x)}) {
    aligned = aligned && reinterpret_cast<uintptr_t>(tensor) % kPackBytes == 0;
  }
  return aligned;
}

Error enqueue(const Launch& launch, GradientArguments& arguments, Stream stream) {
  const LaunchConfig config{static_cast<unsigned>(launch.grid_x),
                            static_cast<unsigned>(launch.grid_y),
                            1,
                            static_cast<unsigned>(launch.block_x),
                            static_cast<unsigned>(launch.block_y),
                            1,
                            static_cast<unsigned>(launch.shared_bytes),
                            stream,
                            nullptr,
                            0};
  return launch_kernel(launch.kernel, config, &arguments);
}

// Adds the shares into `total`, of this type.
Error reduce(const GradientKernels* kernels, GradientArguments arguments, void* total, contract::ElementType type,
             Stream stream) {
  arguments.total = total;
  Launch launch;
  launch.kernel = kernels[index_of(type)].reduce;
  launch.block_x = kWarp;
  launch.block_y = kReduceRows;
  launch.grid_x = ceil_div(arguments.columns, kWarp);
  return enqueue(launch, arguments, stream);
}

Error find_multiprocessors(int device, int& count) {
  return driver().cuDeviceGetAttribute(&count, kMultiprocessorCount, device);
}

}  // namespace

Error prepare_gradient() {
  const GradientKernels* kernels = nullptr;
  Error error = find_kernels(kernels);
  for (int i = 0; i < 3 && error == Error::kNone; ++i) {
    for (const Kernel kernel : {kernels[i].rows, kernels[i].any_rows, kernels[i].any_scale, kernels[i].reduce}) {
      error = error != Error::kNone ? error : load_into_context(kernel);
    }
  }
  return error;
}

Error find_workspace_size(const Problem& norm, int device, int64_t& bytes) {
  if (!driver().problem.empty()) {
    return Error::kDriver;
  }
  int multiprocessors = 0;
  const Error error = find_multiprocessors(device, multiprocessors);
  if (error == Error::kNone) {
    // The alignment of the tensors, which is not known yet, chooses between the two.
    bytes = Workspace(norm, launch_of_any_scale(norm, multiprocessors).grid_y, false).bytes();
    if (holds_row(norm)) {
      bytes = std::max(bytes, Workspace(norm, launch_of_rows(norm, multiprocessors).grid_x, true).bytes());
    }
  }
  return error;
}

Error launch(const Gradient& gradient, void* workspace, Stream stream) {
  const Problem& p = gradient.norm;
  if (p.inner != 1 || p.n < 1 || p.statistics_size < 1 || p.statistics_size > p.n) {
    return Error::kInvalidValue;
  }
  const GradientKernels* kernels = nullptr;
  int device = 0;
  int multiprocessors = 0;
  Error error = find_kernels(kernels);
  error = error != Error::kNone ? error : driver().cuCtxGetDevice(&device);
  error = error != Error::kNone ? error : find_multiprocessors(device, multiprocessors);
  if (error != Error::kNone) {
    return error;
  }
  const GradientKernels& of_type = kernels[index_of(p.type)];
  const bool holds = holds_row(p) && is_aligned(gradient);
  const bool wants_scale = gradient.grad_scale != nullptr;
  Launch rows = holds ? launch_of_rows(p, multiprocessors) : launch_of_any_rows(p, multiprocessors);
  rows.kernel = holds ? of_type.rows : of_type.any_rows;
  Launch scale = launch_of_any_scale(p, multiprocessors);
  scale.kernel = of_type.any_scale;

  GradientArguments arguments{gradient, nullptr, nullptr, nullptr, holds ? rows.grid_x : scale.grid_y, p.n};
  const Workspace sizes(p, arguments.parts, holds);
  char* const memory = static_cast<char*>(workspace);
  if (wants_scale) {
    arguments.shares = reinterpret_cast<float*>(memory);
    arguments.divisors = holds ? nullptr : reinterpret_cast<Divisor*>(memory + sizes.shares);
  }
  if (p.outer > 0) {
    error = enqueue(rows, arguments, stream);
    if (wants_scale && !holds) {
      error = error != Error::kNone ? error : enqueue(scale, arguments, stream);
    }
  }
  if (!wants_scale || error != Error::kNone) {
    return error;
  }
  if (!p.scalar_scale) {
    return reduce(kernels, arguments, gradient.grad_scale, p.scale_type, stream);
  }
  char* const totals = memory + sizes.shares + sizes.divisors;
  error = reduce(kernels, arguments, totals, contract::ElementType::kFloat32, stream);
  arguments.shares = reinterpret_cast<float*>(totals);
  arguments.parts = p.n;
  arguments.columns = 1;
  return error != Error::kNone ? error : reduce(kernels, arguments, gradient.grad_scale, p.scale_type, stream);
}

}  // namespace rms_deploy::cuda
