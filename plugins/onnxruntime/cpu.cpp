// The ops on ONNX Runtime's CPU provider.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/cpu/dispatch.h"
#include "onnxruntime/error.h"
#include "onnxruntime/provider.h"

namespace rms_deploy::ort {

namespace {

// The fewest elements that a task of the thread pool gets: some 5 microseconds of work, about what it costs to wake a
// thread. Tensors up to this size are computed by the calling thread.
constexpr int64_t kGrain = 32768;

// Large tensors are cut into this many tasks: enough for any pool to share evenly, and each long enough that its first
// rows, which nothing fetched ahead, cost little.
constexpr int64_t kTasks = 64;

// Bytes of the last-level cache that this core reaches; where the system does not say, 32 MiB, which the core complex
// of a common server has. sysconf is not asked: it adds up the caches of all complexes of a CPU.
int64_t last_level_cache() {
  int64_t kibibytes = 0;
  if (std::FILE* file = std::fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r")) {
    if (std::fscanf(file, "%" SCNd64 "K", &kibibytes) != 1) {
      kibibytes = 0;
    }
    std::fclose(file);
  }
  return kibibytes > 0 ? kibibytes << 10 : int64_t{32} << 20;
}

struct Tasks {
  const cpu::Problem* problem;
  cpu::NormFunction norm;
  int64_t units;
  int64_t units_per_task;
};

void run_task(void* data, size_t index) {
  const Tasks& tasks = *static_cast<const Tasks*>(data);
  const int64_t first = static_cast<int64_t>(index) * tasks.units_per_task;
  tasks.norm(*tasks.problem, first, std::min(first + tasks.units_per_task, tasks.units));
}

// Whether the rows of an op are general_rows.h, which reads scale as it is.
bool has_general_rows(const Kind& kind, const Types& types) {
  const bool has_float32_sum = kind.sum == contract::Sum::kFloat32 && types.x != ElementType::kFloat32;
  return kind.gate != contract::Gate::kNone || has_shift(kind) || has_float32_sum || types.sum != types.x;
}

struct alignas(64) FactorBlock {
  float values[cpu::kFactorBlock];
};

class CpuKernel : public Kernel {
 public:
  CpuKernel(const cpu::Level& level, const cpu::Level& rows, const Api& api, const KernelInfo* info, const Kind& kind,
            const Types& types)
      : Kernel(api, info, kind, types),
        norm_(level.norm),
        norm_rows_(rows.norm),
        element_(types.x == ElementType::kFloat32 ? 4 : 2) {
    const cpu::Problem problem{constant_scale_problem(info), is_promoted()};
    if (problem.scale != nullptr && !problem.scalar_scale && !has_general_rows(kind, types)) {
      ordered_scale_.resize(static_cast<size_t>(cpu::padded(problem.n) / cpu::kFactorBlock));
      rows.order_scale(problem, reinterpret_cast<float*>(ordered_scale_.data()));
    }
  }

 private:
  void run(KernelContext* context, const Problem& given) const override {
    const int64_t elements = given.outer * given.n * given.inner;
    // If the tensors of this call fill the last-level cache, the next reader of Y does not find it there. Y is then
    // stored past the caches. No line of it has to be read before it is written, which saves a third of the traffic of
    // a norm.
    static const int64_t cache = last_level_cache();
    const int64_t tensors = given.operand == nullptr ? 2 : given.sum == nullptr ? 3 : 4;
    const cpu::Problem problem{given, is_promoted(), elements >= cache / (tensors * element_),
                               ordered_scale(given, elements * tensors * element_ <= cache / 4)};
    const cpu::NormFunction norm = problem.inner == 1 ? norm_rows_ : norm_;
    const int64_t units = cpu::unit_count(problem);
    if (elements <= kGrain || units == 1) {
      norm(problem, 0, units);
      return;
    }
    const int64_t units_per_task = std::max({int64_t{1}, kGrain * units / elements, units / kTasks});
    Tasks tasks{&problem, norm, units, units_per_task};
    const int64_t total = (units + units_per_task - 1) / units_per_task;
    check(api().KernelContext_ParallelFor(context, run_task, static_cast<size_t>(total), 0, &tasks));
  }

  // Null where the kernel shall take scale as it is. A 16-bit scale takes half the first-level cache, which counts more
  // than its conversion where the other halves of long rows come from behind the second-level cache.
  const float* ordered_scale(const Problem& problem, bool is_small) const {
    constexpr int64_t kShort = 2048;
    const bool wanted = problem.scale_type == ElementType::kFloat32 || problem.n <= kShort || is_small;
    // Of several rows each must begin with a pair of vectors.
    const bool begins = problem.scale_rows == 1 || (problem.n % cpu::kFactorBlock == 0 && !problem.scalar_scale);
    const bool is_ready = !ordered_scale_.empty() && begins;
    return is_ready && wanted ? ordered_scale_.front().values : nullptr;
  }

  cpu::NormFunction norm_;
  cpu::NormFunction norm_rows_;
  int64_t element_;                         // bytes, of all tensors but scale
  std::vector<FactorBlock> ordered_scale_;  // of a constant scale, made once; empty: each call orders its own
};

}  // namespace

Provider cpu_provider() {
  const char* problem = nullptr;
  const char* forced = std::getenv("RMS_DEPLOY_ISA");
  const cpu::Level* level = cpu::select_level(forced, &problem);
  if (level == nullptr) {
    throw Error(std::string("rms_deploy: ") + problem);
  }
  const bool is_forced = forced != nullptr && *forced != '\0';
  return {nullptr, [level, is_forced](const Api& api, const KernelInfo* info, const Kind& kind, const Types& types) {
            const cpu::Level* rows = is_forced ? level : cpu::fastest_for_rows(level, types.x);
            return std::make_unique<CpuKernel>(*level, *rows, api, info, kind, types);
          }};
}

}  // namespace rms_deploy::ort
