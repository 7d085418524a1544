// The shell: from the C interface to the kernels, with threads and memory.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/gradient.h"
#include "torch/api.h"
#include "torch/pool.h"
#include "torch/problem.h"

namespace rms_deploy::torch {

namespace {

// Elements that a thread gets at least: what it computes while another one is woken.
constexpr int64_t kGrain = 32768;

// A forward call on several threads is cut into this many tasks.
constexpr int64_t kTasks = 64;

// Bytes of the last-level cache that this core reaches; where the system does not say, that of a common server's core
// complex.
int64_t last_level_cache() {
  static const int64_t bytes = [] {
    int64_t kibibytes = 0;
    if (std::FILE* file = std::fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r")) {
      if (std::fscanf(file, "%" SCNd64 "K", &kibibytes) != 1) {
        kibibytes = 0;
      }
      std::fclose(file);
    }
    return kibibytes > 0 ? kibibytes << 10 : int64_t{32} << 20;
  }();
  return bytes;
}

// Whether what is written is stored past the caches: whether `tensors` of these fill more than half of the last-level
// cache, the rest of which others use. Even where what is written is read at once, it is then faster than a store that
// must first read the line.
bool streams(const cpu::Problem& p, int64_t tensors) {
  const int64_t element = p.type == contract::ElementType::kFloat32 ? 4 : 2;
  return p.outer * p.n * p.inner * element * tensors > last_level_cache() / 2;
}

struct Selected {
  const cpu::Level* level = nullptr;
  const char* problem = nullptr;
  bool is_forced = false;
};

const Selected& selected() {
  static const Selected chosen = [] {
    Selected made;
    const char* forced = std::getenv("RMS_DEPLOY_ISA");
    made.level = cpu::select_level(forced, &made.problem);
    made.is_forced = forced != nullptr && *forced != '\0';
    return made;
  }();
  return chosen;
}

cpu::Problem cpu_problem_of(const RmsDeployTorchNorm& norm, int64_t outer, const void* x, const void* scale) {
  cpu::Problem p;
  static_cast<rms_deploy::Problem&>(p) = problem_of(norm, outer, x, scale);
  return p;
}

// Threads that have a grain each.
int useful_threads(const cpu::Problem& p, int threads) {
  const int64_t grains = p.outer * p.n * p.inner / kGrain;
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, grains)));
}

cpu::NormFunction forward_function(const cpu::Problem& p) {
  const Selected& chosen = selected();
  const bool takes_highest = chosen.is_forced || p.inner != 1;
  return (takes_highest ? chosen.level : cpu::fastest_for_rows(chosen.level, p.type))->norm;
}

struct ForwardTasks {
  const cpu::Problem* problem;
  cpu::NormFunction norm;
  int64_t units;
  int64_t units_per_task;
};

void forward_task(void* data, int64_t index, int) {
  const ForwardTasks& tasks = *static_cast<const ForwardTasks*>(data);
  const int64_t first = index * tasks.units_per_task;
  tasks.norm(*tasks.problem, first, std::min(first + tasks.units_per_task, tasks.units));
}

void forward(const cpu::Problem& p, int threads) {
  const cpu::NormFunction norm = forward_function(p);
  const int64_t units = cpu::unit_count(p);
  const int useful = useful_threads(p, threads);
  if (useful == 1) {
    norm(p, 0, units);
    return;
  }
  ForwardTasks tasks{&p, norm, units, (units + kTasks - 1) / kTasks};
  run_tasks((units + tasks.units_per_task - 1) / tasks.units_per_task, useful, forward_task, &tasks);
}

// Memory that a thread of the caller's keeps for its next call, as fresh pages cost more than all that is done in them.
class Scratch {
 public:
  // `bytes`, aligned for any vector; null where there is no memory.
  unsigned char* of(size_t bytes) {
    if (bytes > size_) {
      memory_.reset(static_cast<unsigned char*>(::operator new(bytes, kAlignment, std::nothrow)));
      size_ = memory_ == nullptr ? 0 : bytes;
    }
    return memory_.get();
  }

  void give_back_above(size_t bytes) {
    if (size_ > bytes) {
      memory_.reset();
      size_ = 0;
    }
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Delete {
    void operator()(unsigned char* memory) const { ::operator delete(memory, kAlignment); }
  };

  std::unique_ptr<unsigned char, Delete> memory_;
  size_t size_ = 0;
};

constexpr size_t kKept = size_t{4} << 20;

struct BackwardTasks {
  const cpu::Gradient* gradient;
  cpu::GradientFunction function;
  float* scratch;
  int64_t scratch_size;  // of one worker
};

void backward_task(void* data, int64_t index, int worker) {
  const BackwardTasks& tasks = *static_cast<const BackwardTasks*>(data);
  tasks.function(*tasks.gradient, index, tasks.scratch + worker * tasks.scratch_size);
}

// False where there is no memory.
bool backward(cpu::Gradient& gradient, void* grad_scale, int threads) {
  thread_local Scratch memory;
  const cpu::Problem& p = gradient.norm;
  const int64_t parts = cpu::part_count(p);
  const int useful = useful_threads(p, threads);
  const int64_t shares = grad_scale == nullptr ? 0 : parts * p.n;
  const int64_t factors = cpu::padded(p.n);
  const int64_t scratch = cpu::scratch_size(p);
  const int64_t floats = factors + useful * scratch;
  unsigned char* const all =
      memory.of(static_cast<size_t>(floats) * sizeof(float) + static_cast<size_t>(shares) * sizeof(double));
  if (all == nullptr) {
    return false;
  }
  float* const own = reinterpret_cast<float*>(all);
  cpu::scale_factors(p, own);
  gradient.factors = own;
  gradient.shares = grad_scale == nullptr ? nullptr : reinterpret_cast<double*>(own + floats);
  BackwardTasks tasks{&gradient, cpu::gradient_function(*selected().level), own + factors, scratch};
  run_tasks(parts, useful, backward_task, &tasks);
  if (grad_scale != nullptr) {
    cpu::reduce_shares(gradient, grad_scale);
  }
  memory.give_back_above(kKept);
  return true;
}

}  // namespace

}  // namespace rms_deploy::torch

extern "C" {

int32_t rms_deploy_torch_version() { return kRmsDeployTorchVersion; }

const char* rms_deploy_torch_problem() { return rms_deploy::torch::selected().problem; }

int32_t rms_deploy_torch_forward(const RmsDeployTorchNorm* norm, int64_t outer, int32_t threads, const void* x,
                                 const void* residual, const void* scale, void* y, void* sum) {
  if (rms_deploy::torch::selected().level == nullptr) {
    return 1;
  }
  rms_deploy::cpu::Problem p = rms_deploy::torch::cpu_problem_of(*norm, outer, x, scale);
  p.operand = residual;
  p.y = y;
  p.sum = sum;
  p.stream = rms_deploy::torch::streams(p, residual == nullptr ? 2 : 4);
  if (outer > 0 && p.n > 0 && p.inner > 0) {
    rms_deploy::torch::forward(p, threads);
  }
  return 0;
}

int32_t rms_deploy_torch_backward(const RmsDeployTorchNorm* norm, int64_t outer, int32_t threads, const void* x,
                                  const void* scale, const void* grad_y, const void* grad_sum, void* grad_x,
                                  void* grad_scale) {
  if (rms_deploy::torch::selected().level == nullptr) {
    return 1;
  }
  rms_deploy::cpu::Gradient gradient;
  gradient.norm = rms_deploy::torch::cpu_problem_of(*norm, outer, x, scale);
  gradient.grad_y = grad_y;
  gradient.grad_sum = grad_sum;
  gradient.grad_x = grad_x;
  gradient.norm.stream = rms_deploy::torch::streams(gradient.norm, grad_sum == nullptr ? 3 : 4);
  if (grad_x == nullptr && grad_scale == nullptr) {
    return 0;
  }
  return rms_deploy::torch::backward(gradient, grad_scale, threads) ? 0 : 1;
}

}  // extern "C"
