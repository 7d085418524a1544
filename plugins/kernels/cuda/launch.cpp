// Which kernel runs a problem, with which grid.
#include <utility>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/sizes.h"

namespace rms_deploy::cuda {

namespace {

constexpr int64_t kBlockThreads = 128;     // of a block of several rows
constexpr int64_t kThreadsPerSM = 512;     // fewer leave memory waiting
constexpr int64_t kFewestSplit = 4;        // blocks per row: each reads the whole row, and writes its part
constexpr int64_t kMostSplit = 16;         // more of them save little: each reads the whole row all the same
constexpr int64_t kSplitPacks = 256;       // a shorter row is not worth four blocks
constexpr int64_t kOwnSharedBytes = 1024;  // of a block's shared memory that are not for the row
constexpr Tactic kSplitRow = 16;           // beside 1, 2, 4, 8: packs per thread
#if defined(RMS_DEPLOY_CUDA_MAX_BLOCKS)    // by the tests
constexpr int64_t kMaxBlocks = RMS_DEPLOY_CUDA_MAX_BLOCKS;
#else
constexpr int64_t kMaxBlocks = 0x7fffffff;
#endif

struct Plan {
  Kernel kernel = nullptr;
  int64_t block_x = 1;
  int64_t block_y = 1;
  int64_t blocks = 0;           // along x
  int64_t chunks = 1;           // along y
  int64_t units_per_block = 1;  // rows, or tiles
  int64_t shared_bytes = 0;
  int64_t tiles = 1;
  int32_t fold = 1;
  bool whole_vectors = true;
};

// What a GPU has.
struct Device {
  int number = 0;
  int multiprocessors = 0;
  int shared_bytes = 0;  // that a block can ask for
};

// What the addresses of rows allow.
struct Alignment {
  bool packs = true;  // all rows start at a multiple of 16 bytes
  bool alike = true;  // all tensors have the same misalignment
  bool in_place = false;
};

uintptr_t misalignment(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kPackBytes; }

Alignment alignment_of(const Problem& p) {
  Alignment alignment;
  const void* tensors[] = {p.x, p.y, p.residual, p.sum};
  for (const void* tensor : tensors) {
    alignment.packs = alignment.packs && misalignment(tensor) == 0;
    alignment.alike = alignment.alike && (tensor == nullptr || misalignment(tensor) == misalignment(p.x));
  }
  alignment.packs = alignment.packs && p.n * bytes_of(p.type) % kPackBytes == 0;
  alignment.packs = alignment.packs && (p.scalar_scale || misalignment(p.scale) == 0);
  for (const void* output : {p.y, p.sum}) {
    alignment.in_place = alignment.in_place || (output != nullptr && (output == p.x || output == p.residual));
  }
  return alignment;
}

int64_t max_threads(int64_t vectors) { return vectors <= 4 ? kMaxThreads<4> : kMaxThreads<8>; }

// Packs per thread: as many as leave every multiprocessor enough threads, but at least so many that a block can hold
// the row. 0 if no block can.
int64_t vectors_for(int64_t rows, int64_t packs, int64_t multiprocessors) {
  int64_t vectors = 4;
  if (packs > vectors * max_threads(vectors)) {
    return 0;
  }
  while (vectors > 1 && packs <= vectors / 2 * max_threads(vectors / 2) &&
         rows * threads_per_row(packs, vectors) < multiprocessors * kThreadsPerSM) {
    vectors /= 2;
  }
  return vectors;
}

// Short rows share a block.
void set_block(Plan& plan, const Problem& p, int64_t threads) {
  plan.units_per_block = threads <= kWarp && plan.chunks == 1 ? kBlockThreads / threads : 1;
  plan.block_x = threads;
  plan.block_y = plan.units_per_block;
  plan.blocks = ceil_div(p.outer, plan.units_per_block);
}

bool is_valid(Tactic tactic, int64_t packs) {
  if (tactic == kSplitRow) {
    return packs >= kSplitPacks;
  }
  const bool known = tactic == 1 || tactic == 2 || tactic == 4 || tactic == 8;
  return known && packs >= tactic && packs <= tactic * max_threads(tactic);
}

// Rows that are read twice, by up to `chunks` blocks each.
Plan plan_of_any_rows(const Problem& p, const Kernels& kernels, const Alignment& alignment, int64_t chunks) {
  const int64_t width = kPackBytes / bytes_of(p.type);
  const int64_t packs = ceil_div(p.n, width) + (alignment.packs || !alignment.alike ? 0 : 1);  // may start within one
  Plan plan;
  plan.kernel = kernels.any_rows;
  plan.whole_vectors = alignment.alike;
  plan.chunks = alignment.in_place ? 1 : chunks;
  const int64_t threads = threads_per_row(ceil_div(packs, plan.chunks), kAnyRowVectors);
  set_block(plan, p, threads < kAnyRowThreads ? threads : kAnyRowThreads);
  return plan;
}

// Blocks for each row, where rows are few: on half of the multiprocessors, because more of them read the same row no
// faster from L2.
int64_t split_of(const Problem& p, const Device& device) {
  const int64_t blocks = device.multiprocessors / 2 / p.outer;
  return blocks < kMostSplit ? blocks : kMostSplit;
}

// Rows that no block holds in registers.
Plan plan_of_long_rows(const Problem& p, const Kernels& kernels, const Alignment& alignment, const Device& device) {
  const int64_t split = alignment.in_place ? 1 : split_of(p, device);
  const int64_t bytes = p.n * bytes_of(p.type);
  if (split >= kFewestSplit || bytes + kOwnSharedBytes > device.shared_bytes) {
    return plan_of_any_rows(p, kernels, alignment, split > 1 ? split : 1);
  }
  Plan plan;
  plan.kernel = kernels.shared_rows;
  plan.block_x = kSharedRowThreads;
  plan.blocks = p.outer;
  plan.shared_bytes = bytes;
  return plan;
}

Plan plan_of_rows(const Problem& p, const Kernels& kernels, const Alignment& alignment, Tactic tactic,
                  const Device& device) {
  const int64_t packs = p.n * bytes_of(p.type) / kPackBytes;
  if (!alignment.packs) {
    return plan_of_any_rows(p, kernels, alignment, 1);
  }
  if (tactic == kSplitRow && is_valid(tactic, packs)) {
    const int64_t split = split_of(p, device);
    return plan_of_any_rows(p, kernels, alignment, split > kFewestSplit ? split : kFewestSplit);
  }
  const int64_t vectors = is_valid(tactic, packs) ? tactic : vectors_for(p.outer, packs, device.multiprocessors);
  if (vectors == 0) {
    return plan_of_long_rows(p, kernels, alignment, device);
  }
  Plan plan;
  plan.kernel = kernels.rows[vectors == 8 ? 3 : vectors / 2];
  set_block(plan, p, threads_per_row(packs, vectors));
  return plan;
}

// Bytes of an access: as wide as every row of every tensor is aligned.
int64_t access_bytes(const Problem& p) {
  int64_t width = kPackBytes;
  for (const void* tensor : {p.x, static_cast<const void*>(p.y), p.residual, static_cast<const void*>(p.sum)}) {
    while (reinterpret_cast<uintptr_t>(tensor) % width != 0) {
      width /= 2;
    }
  }
  while (p.inner * bytes_of(p.type) % width != 0) {
    width /= 2;
  }
  return width;
}

// Whether two rows can be taken as one, whose columns then have to be those of one block.
bool folds(const Problem& p) {
  Problem folded = p;
  folded.inner *= 2;
  return access_bytes(p) == 2 && access_bytes(folded) >= 4 && p.n % 2 == 0 && p.statistics_size % 2 == 0 &&
         p.inner <= kColumnThreads / 2;
}

Plan plan_of_columns(const Problem& p, const Kernels& kernels) {
  constexpr int64_t kLineBytes = 128;
  Plan plan;
  plan.fold = folds(p) ? 2 : 1;
  const int64_t width = plan.fold == 2 ? 4 : access_bytes(p);
  const int64_t accesses = ceil_div(p.inner * plan.fold * bytes_of(p.type), width);
  const int64_t line = plan.fold == 2 ? accesses : kLineBytes / width;
  plan.kernel = kernels.columns[width == 16 ? 0 : width == 8 ? 1 : width == 4 ? 2 : 3];
  plan.block_x = power_of_two_from(accesses < line ? accesses : line);
  plan.block_y = kColumnThreads / plan.block_x;
  plan.tiles = ceil_div(accesses, plan.block_x);
  plan.blocks = p.outer * plan.tiles;
  return plan;
}

Error enqueue(const Problem& problem, const Plan& plan, Stream stream) {
  for (int64_t block = 0; block < plan.blocks; block += kMaxBlocks) {
    const int64_t blocks = plan.blocks - block < kMaxBlocks ? plan.blocks - block : kMaxBlocks;
    Arguments arguments{problem, block * plan.units_per_block, plan.tiles, plan.fold, plan.whole_vectors};
    void* pointers[] = {&arguments};
    // A CUkernel in the place of a function is launched in the stream's context.
    const Error error = driver().cuLaunchKernel(
        reinterpret_cast<CUfunc_st*>(plan.kernel), static_cast<unsigned>(blocks), static_cast<unsigned>(plan.chunks), 1,
        static_cast<unsigned>(plan.block_x), static_cast<unsigned>(plan.block_y), 1,
        static_cast<unsigned>(plan.shared_bytes), stream, pointers, nullptr);
    if (error != Error::kNone) {
      return error;
    }
  }
  return Error::kNone;
}

Error find_device(Device& device) {
  Error error = driver().cuCtxGetDevice(&device.number);
  for (const auto& [value, attribute] :
       {std::pair{&device.multiprocessors, kMultiprocessorCount}, std::pair{&device.shared_bytes, kMaxSharedBytes}}) {
    error = error != Error::kNone ? error : driver().cuDeviceGetAttribute(value, attribute, device.number);
  }
  return error;
}

// A kernel may ask for more than 48 KB of a device's shared memory once it is allowed to.
Error allow_shared_rows(const Kernels& kernels, const Device& device) {
  return driver().cuKernelSetAttribute(kDynamicSharedBytes, device.shared_bytes - static_cast<int>(kOwnSharedBytes),
                                       kernels.shared_rows, device.number);
}

}  // namespace

int32_t tactics(const Problem& problem, Tactic (&found)[kMaxTactics]) {
  int32_t count = 0;
  const int64_t row = problem.n * bytes_of(problem.type);
  if (problem.inner == 1 && row % kPackBytes == 0) {
    for (const Tactic tactic : {1, 2, 4, 8, kSplitRow}) {
      if (is_valid(tactic, row / kPackBytes)) {
        found[count++] = tactic;
      }
    }
  }
  return count;
}

Error prepare() {
  Device device;
  for (const contract::ElementType type :
       {contract::ElementType::kFloat32, contract::ElementType::kFloat16, contract::ElementType::kBFloat16}) {
    const Kernels* k = nullptr;
    Error error = find_kernels(type, k);
    error = error != Error::kNone ? error : find_device(device);
    error = error != Error::kNone ? error : allow_shared_rows(*k, device);
    if (error != Error::kNone) {
      return error;
    }
    for (const Kernel kernel : {k->shared_rows, k->rows[0], k->rows[1], k->rows[2], k->rows[3], k->any_rows,
                                k->columns[0], k->columns[1], k->columns[2], k->columns[3]}) {
      error = kernel == nullptr ? Error::kNone : load_into_context(kernel);
      if (error != Error::kNone) {
        return error;
      }
    }
  }
  return Error::kNone;
}

Error launch(const Problem& problem, Tactic tactic, Stream stream) {
  if (problem.outer == 0 || problem.n == 0 || problem.inner == 0) {
    return Error::kNone;
  }
  if (problem.statistics_size < 1 || problem.statistics_size > problem.n) {
    return Error::kInvalidValue;
  }
  const Kernels* kernels = nullptr;
  Error error = find_kernels(problem.type, kernels);
  if (error != Error::kNone) {
    return error;
  }
  if (problem.inner > 1) {
    return enqueue(problem, plan_of_columns(problem, *kernels), stream);
  }
  const Alignment alignment = alignment_of(problem);
  Device device;
  error = find_device(device);
  if (error != Error::kNone) {
    return error;
  }
  const Plan plan = plan_of_rows(problem, *kernels, alignment, tactic, device);
  if (plan.shared_bytes > 0) {  // a host may launch on a device that it has not prepared
    error = allow_shared_rows(*kernels, device);
  }
  return error != Error::kNone ? error : enqueue(problem, plan, stream);
}

}  // namespace rms_deploy::cuda
