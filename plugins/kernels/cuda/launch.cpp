// Which kernel runs a problem, with which grid.
#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/sizes.h"

namespace rms_deploy::cuda {

namespace {

constexpr int64_t kBlockThreads = 128;  // of a block of several rows
constexpr int64_t kThreadsPerSM = 512;  // fewer leave memory waiting
constexpr int64_t kMostSplit = 16;      // blocks per row: each reads the whole row, so more of them save little
constexpr int64_t kSharedPacks = int64_t{kSharedRowThreads} * kSharedRowVectors;  // that norm_shared_rows reads at once
constexpr int64_t kMostCounted = int64_t{1} << 30;  // elements of aligned rows, which kernels count in 32 bits
constexpr int64_t kOwnSharedBytes = 1024;           // of a block's shared memory that are not for the row
constexpr int64_t kColumnThreads = 256;             // of a usual block of columns
constexpr int64_t kMostFolded = 128;                // columns, whose rows are taken two at a time
constexpr Tactic kSplitRow = 16;                    // beside 1, 2, 4, 8: packs per thread
#if defined(RMS_DEPLOY_CUDA_MAX_BLOCKS)             // by the tests
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
  uint8_t fold = 1;
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
  bool packs = true;  // all rows start at a multiple of 16 bytes; those of a quantised y, at one of its part of a pack
  bool alike = true;  // all tensors of the type of x have the same misalignment
  bool in_place = false;
};

bool has_gate(const Problem& p) { return p.gate != contract::Gate::kNone; }

// Whether a residual and a sum of this problem, if it has them, have another type than x.
bool has_mixed_sum(const Problem& p) { return !has_gate(p) && p.sum_type != p.type; }

// Whether it has what only the kernels for general rows do. Of float32, a float32 sum is the usual one.
bool is_general(const Problem& p, bool has_residual) {
  return p.shift != nullptr || p.quantized_type != contract::QuantizedType::kNone ||
         (has_residual && (has_mixed_sum(p) || (p.normalizes_float32_sum && bytes_of(p.type) == 2)));
}

bool takes_rows_only(const Problem& p) { return has_gate(p) || is_general(p, p.operand != nullptr); }

int64_t misalignment(const void* pointer, int64_t bytes = kPackBytes) {
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes));
}

Alignment alignment_of(const Problem& p) {
  Alignment alignment;
  const bool is_quantized = p.quantized_type != contract::QuantizedType::kNone;
  const bool is_like_x = !has_mixed_sum(p);
  const struct {
    const void* address;
    bool is_like_x;
    int64_t bytes;  // what a pack of x is in this tensor, or 16 of it
  } tensors[] = {{p.x, true, kPackBytes},
                 {p.y, !is_quantized, is_quantized ? kPackBytes / bytes_of(p.type) : kPackBytes},
                 {p.operand, is_like_x, kPackBytes},
                 {p.sum, is_like_x, kPackBytes}};
  for (const auto& tensor : tensors) {
    const bool is_alike = !tensor.is_like_x || misalignment(tensor.address) == misalignment(p.x);
    alignment.packs = alignment.packs && misalignment(tensor.address, tensor.bytes) == 0;
    alignment.alike = alignment.alike && (tensor.address == nullptr || is_alike);
  }
  alignment.packs = alignment.packs && p.n * bytes_of(p.type) % kPackBytes == 0;
  alignment.packs = alignment.packs && (p.scalar_scale || (misalignment(p.scale) == 0 && misalignment(p.shift) == 0));
  for (const void* output : {p.y, p.sum}) {
    alignment.in_place = alignment.in_place || (output != nullptr && (output == p.x || output == p.operand));
  }
  return alignment;
}

int64_t max_threads(int64_t vectors) { return vectors <= 4 ? kMaxThreads<4> : kMaxThreads<8>; }

// Packs per thread: as many as leave every multiprocessor enough threads, but at least so many that a block can hold
// the row, and that it has no more than 256 threads for each pack of a thread: many warps take longer to meet than a
// warp takes for a further pack. 0 if no block can hold the row.
int64_t vectors_for(int64_t rows, int64_t packs, int64_t multiprocessors) {
  int64_t vectors = 4;
  if (packs > vectors * max_threads(vectors)) {
    return 0;
  }
  while (vectors > 1 && threads_per_row(packs, vectors / 2) <= 256 * (vectors / 2) &&
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
    return packs > kSharedPacks;
  }
  const bool known = tactic == 1 || tactic == 2 || tactic == 4 || tactic == 8;
  return known && packs >= tactic && packs <= tactic * max_threads(tactic);
}

// Rows that are read twice, by up to `split` blocks each.
Plan plan_of_any_rows(const Problem& p, const Kernels& kernels, const Alignment& alignment, int64_t split) {
  const int64_t width = kPackBytes / bytes_of(p.type);
  const int64_t packs = ceil_div(p.n, width) + (alignment.packs || !alignment.alike ? 0 : 1);  // may start within one
  Plan plan;
  plan.kernel = kernels.any_rows;
  plan.whole_vectors = alignment.alike;
  const int64_t threads = std::min<int64_t>(threads_per_row(packs, kAnyRowVectors), kAnyRowThreads);
  plan.chunks = alignment.in_place ? 1 : std::clamp<int64_t>(split, 1, ceil_div(packs, threads * kAnyRowVectors));
  set_block(plan, p, threads);
  return plan;
}

// Aligned rows that no block holds in registers. Where they are few, several blocks have each of them: on half of the
// multiprocessors, because more of them read the same row no faster from L2.
Plan plan_of_long_rows(const Problem& p, const Kernels& kernels, const Alignment& alignment, const Device& device) {
  const int64_t bytes = p.n * bytes_of(p.type);
  const int64_t chunks = ceil_div(bytes / kPackBytes, kSharedPacks);
  const int64_t split = std::min(device.multiprocessors / 2 / p.outer, kMostSplit);
  Plan plan;
  plan.kernel = kernels.shared_rows;
  plan.block_x = kSharedRowThreads;
  plan.blocks = p.outer;
  plan.chunks = alignment.in_place ? 1 : std::clamp<int64_t>(split, 1, chunks);
  plan.shared_bytes = plan.chunks == 1 ? bytes : ceil_div(chunks, plan.chunks) * kSharedPacks * kPackBytes;
  const bool fits = plan.shared_bytes + kOwnSharedBytes <= device.shared_bytes && p.n <= kMostCounted;
  return fits ? plan : plan_of_any_rows(p, kernels, alignment, split);
}

Plan plan_of_rows(const Problem& p, const Kernels& kernels, const Alignment& alignment, Tactic tactic,
                  const Device& device) {
  const int64_t packs = p.n * bytes_of(p.type) / kPackBytes;
  if (!alignment.packs) {
    return plan_of_any_rows(p, kernels, alignment, 1);
  }
  const int64_t vectors = is_valid(tactic, packs) ? tactic : vectors_for(p.outer, packs, device.multiprocessors);
  if (vectors == 0 || vectors == kSplitRow) {
    return plan_of_long_rows(p, kernels, alignment, device);
  }
  Plan plan;
  plan.kernel = kernels.rows[vectors == 8 ? 3 : vectors / 2];
  set_block(plan, p, threads_per_row(packs, vectors));
  return plan;
}

// Rows with a gate, or what else the usual kernels leave out, in the blocks of those that are read twice.
Plan plan_of_general_rows(const Problem& p, const Kernels& kernels, const Alignment& alignment) {
  Plan plan = plan_of_any_rows(p, kernels, alignment, 1);
  if (alignment.packs && p.n <= kMostCounted) {
    plan.kernel = has_gate(p) ? kernels.gated_rows : kernels.general_rows;
  } else {
    plan.kernel = has_gate(p) ? kernels.gated_any_rows : kernels.general_any_rows;
  }
  return plan;
}

// Bytes of an access: as wide as every row of every tensor is aligned.
int64_t access_bytes(const Problem& p) {
  int64_t width = kPackBytes;
  for (const void* tensor : {p.x, static_cast<const void*>(p.y), p.operand, static_cast<const void*>(p.sum)}) {
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
         p.inner <= kMostFolded;
}

// As many threads along n as let each hold its elements; along the columns as many as make a usual block, but fewer
// where blocks would be too few, down to those that read a sector of memory.
Plan plan_of_columns(const Problem& p, const Kernels& kernels, const Device& device) {
  constexpr int64_t kSectorBytes = 32;
  Plan plan;
  plan.fold = folds(p) ? 2 : 1;
  const int64_t width = plan.fold == 2 ? 4 : access_bytes(p);
  const int64_t accesses = ceil_div(p.inner * plan.fold * bytes_of(p.type), width);
  const int64_t line = power_of_two_from(accesses);
  const int64_t fewest = plan.fold == 2 ? line : std::min(line, kSectorBytes / width);
  plan.kernel = kernels.columns[width == 16 ? 0 : width == 8 ? 1 : width == 4 ? 2 : 3];
  plan.block_y = power_of_two_from(ceil_div(p.n / plan.fold, kHeld));
  plan.block_y = std::min(plan.block_y, (width == 16 ? kMaxColumnThreads<16> : kMaxColumnThreads<8>) / fewest);
  plan.block_x = std::clamp(kColumnThreads / plan.block_y, fewest, line);
  while (plan.block_x > fewest && p.outer * ceil_div(accesses, plan.block_x) < device.multiprocessors * 2) {
    plan.block_x /= 2;
  }
  plan.block_y = std::max(plan.block_y, kWarp / plan.block_x);
  plan.tiles = ceil_div(accesses, plan.block_x);
  plan.blocks = p.outer * plan.tiles;
  return plan;
}

// Whether the kernel may be launched while the one before it still runs: the environment asks for it, and the kernel's
// code waits for that one, as norm.cu says.
bool launches_early(const Plan& plan, const Device& device) {
  static const bool is_wanted = [] {
    const char* text = std::getenv("RMS_DEPLOY_PROGRAMMATIC_LAUNCH");
    return text != nullptr && std::string_view(text) == "1";
  }();
  int version = 0;
  return is_wanted &&
         driver().cuKernelGetAttribute(&version, kPtxVersion, plan.kernel, device.number) == Error::kNone &&
         version >= 90;
}

Error enqueue(const Problem& problem, const Plan& plan, const Device& device, Stream stream) {
  LaunchAttribute early = {kProgrammaticLaunch, 1, {}};
  const unsigned attributes = launches_early(plan, device) ? 1 : 0;
  for (int64_t block = 0; block < plan.blocks; block += kMaxBlocks) {
    const int64_t blocks = std::min(plan.blocks - block, kMaxBlocks);
    const float inverse_size = 1.0F / static_cast<float>(problem.statistics_size);
    Arguments arguments{problem, block * plan.units_per_block, plan.tiles, inverse_size, plan.fold, plan.whole_vectors};
    const LaunchConfig config{static_cast<unsigned>(blocks),
                              static_cast<unsigned>(plan.chunks),
                              1,
                              static_cast<unsigned>(plan.block_x),
                              static_cast<unsigned>(plan.block_y),
                              1,
                              static_cast<unsigned>(plan.shared_bytes),
                              stream,
                              &early,
                              attributes};
    const Error error = launch_kernel(plan.kernel, config, &arguments);
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
  if (problem.inner == 1 && !has_gate(problem) && !is_general(problem, true) && row % kPackBytes == 0) {
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
    for (const Kernel kernel :
         {k->shared_rows, k->rows[0], k->rows[1], k->rows[2], k->rows[3], k->any_rows, k->gated_rows, k->gated_any_rows,
          k->general_rows, k->general_any_rows, k->columns[0], k->columns[1], k->columns[2], k->columns[3]}) {
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
  const bool takes_rows = takes_rows_only(problem);
  if (problem.statistics_size < 1 || problem.statistics_size > problem.n || (takes_rows && problem.inner > 1) ||
      (has_gate(problem) && is_general(problem, false))) {
    return Error::kInvalidValue;
  }
  const Kernels* kernels = nullptr;
  Error error = find_kernels(problem.type, kernels);
  if (error != Error::kNone) {
    return error;
  }
  Device device;
  error = find_device(device);
  if (error != Error::kNone) {
    return error;
  }
  const Plan plan = takes_rows          ? plan_of_general_rows(problem, *kernels, alignment_of(problem))
                    : problem.inner > 1 ? plan_of_columns(problem, *kernels, device)
                                        : plan_of_rows(problem, *kernels, alignment_of(problem), tactic, device);
  if (plan.shared_bytes > 0) {  // a host may launch on a device that it has not prepared
    error = allow_shared_rows(*kernels, device);
  }
  return error != Error::kNone ? error : enqueue(problem, plan, device, stream);
}

}  // namespace rms_deploy::cuda
