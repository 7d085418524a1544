// The interface of librms_deploy_torch.so, for the sanitizers: every width around the vectors, every type and option,
// in memory that ends where the tensor ends, on one thread and on several, whose results must have the same bits. The
// numbers are held against float64 by tests/ops. Exits with 1 and says which case failed.
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/rounding.h"
#include "torch/api.h"

namespace {

using rms_deploy::BFloat16;
using rms_deploy::Float16;
using rms_deploy::from_float;

constexpr int32_t kFloat32 = 1;
constexpr int32_t kFloat16 = 10;

int failures = 0;

float random_number() {
  static uint64_t state = 88172645463325252U;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<float>(static_cast<double>(state >> 11) * 0x1p-52 - 1.0);
}

// The bytes of a tensor, and nothing behind them.
using Tensor = std::vector<unsigned char>;

Tensor make(int32_t type, int64_t size, bool random) {
  Tensor tensor(static_cast<size_t>(size) * (type == kFloat32 ? 4 : 2));
  for (int64_t i = 0; random && i < size; ++i) {
    const float value = random_number();
    const Float16 half = from_float<Float16>(value);
    const BFloat16 brain = from_float<BFloat16>(value);
    const size_t bytes = type == kFloat32 ? 4 : 2;
    const void* from = type == kFloat32   ? static_cast<const void*>(&value)
                       : type == kFloat16 ? &half.bits
                                          : &brain.bits;
    std::memcpy(tensor.data() + static_cast<size_t>(i) * bytes, from, bytes);
  }
  return tensor;
}

struct Outputs {
  Tensor y, sum, grad_x, grad_scale;

  bool operator==(const Outputs& other) const {
    return y == other.y && sum == other.sum && grad_x == other.grad_x && grad_scale == other.grad_scale;
  }
};

struct Case {
  RmsDeployTorchNorm norm;
  int64_t outer;
  bool add;
  bool wants_x;
  bool wants_scale;
};

void check(const Case& c) {
  const int64_t size = c.outer * c.norm.n * c.norm.inner;
  const int64_t scales = c.norm.scalar_scale != 0 ? 1 : c.norm.n;
  const Tensor x = make(c.norm.type, size, true);
  const Tensor residual = make(c.norm.type, size, true);
  const Tensor grad_y = make(c.norm.type, size, true);
  const Tensor scale = make(c.norm.scale_type, scales, true);
  const auto run = [&](int32_t threads) {
    Outputs made{make(c.norm.type, size, false), make(c.norm.type, size, false), make(c.norm.type, size, false),
                 make(c.norm.scale_type, scales, false)};
    int32_t status = rms_deploy_torch_forward(&c.norm, c.outer, threads, x.data(), c.add ? residual.data() : nullptr,
                                              scale.data(), made.y.data(), c.add ? made.sum.data() : nullptr);
    status |= rms_deploy_torch_backward(&c.norm, c.outer, threads, c.add ? made.sum.data() : x.data(), scale.data(),
                                        grad_y.data(), c.add ? residual.data() : nullptr,
                                        c.wants_x ? made.grad_x.data() : nullptr,
                                        c.wants_scale ? made.grad_scale.data() : nullptr);
    failures += status;
    return made;
  };
  const Outputs expected = run(1);
  for (const int32_t threads : {2, 5}) {
    if (!(run(threads) == expected)) {
      ++failures;
      std::printf("other bits on %d threads: type %d scale %d (%lld, %lld, %lld) statistics %lld add %d\n", threads,
                  c.norm.type, c.norm.scale_type, static_cast<long long>(c.outer), static_cast<long long>(c.norm.n),
                  static_cast<long long>(c.norm.inner), static_cast<long long>(c.norm.statistics_size), c.add);
    }
  }
}

void check_type(int32_t type, int32_t scale_type) {
  int64_t number = 0;
  const auto one = [&](int64_t outer, int64_t n, int64_t inner) {
    ++number;  // the options are walked through in cycles of coprime lengths
    const bool add = number % 2 == 0;
    const int64_t statistics = number % 3 == 0 ? 1 + n / 3 : n;
    check({{n, inner, statistics, type, scale_type, number % 5 == 0, number % 7 < 3, number % 7 < 2, 1e-6F, 0.0F, 0.0F},
           outer,
           add,
           number % 11 != 0,
           number % 13 != 0});
  };
  one(0, 5, 1);
  one(3, 5, 0);
  for (int64_t n = 1; n <= 2 * 64 + 2; ++n) {
    one(1 + n % 5, n, 1);
    one(1, 1 + n % 23, n);
  }
  for (const int64_t n : {255, 257, 1111, 2048, 2049, 4099}) {
    for (int option = 0; option < 6; ++option) {
      one(5, n, 1);
    }
  }
  for (int option = 0; option < 3; ++option) {  // several threads: more than a grain each
    one(300, 700, 1);
    one(3000, 64, 1);
    one(7, 64, 515);
  }
}

}  // namespace

int main() {
  if (const char* problem = rms_deploy_torch_problem(); problem != nullptr) {
    std::printf("%s\n", problem);
    return 77;
  }
  for (const int32_t type : {1, 10, 16}) {
    check_type(type, kFloat32);
    if (type != kFloat32) {
      check_type(type, type);
    }
  }
  std::vector<std::thread> callers;  // at once: one has the helpers, the others compute alone
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([] {
      const RmsDeployTorchNorm norm{512, 1, 512, kFloat32, kFloat32, 0, 0, 0, 1e-6F, 0.0F, 0.0F};
      const std::vector<float> x(512 * 400, 1.5F);
      std::vector<float> y(x.size());
      std::vector<float> grad_scale(512);
      for (int round = 0; round < 20; ++round) {
        rms_deploy_torch_forward(&norm, 400, 3, x.data(), nullptr, x.data(), y.data(), nullptr);
        rms_deploy_torch_backward(&norm, 400, 3, x.data(), x.data(), y.data(), nullptr, y.data(), grad_scale.data());
      }
    });
  }
  for (std::thread& caller : callers) {
    caller.join();
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
