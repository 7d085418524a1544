#include "kernels/cpu/dispatch.h"

#include <cstring>

namespace rms_deploy::cpu {

namespace {

struct Candidate {
  Level level;
  bool (*supported)();
};

}  // namespace

#if defined(__x86_64__)

namespace v2 {
void norm(const Problem& problem, int64_t first, int64_t last);
void order_scale(const Problem& problem, float* ordered);
}  // namespace v2
namespace avx2 {
void norm(const Problem& problem, int64_t first, int64_t last);
void order_scale(const Problem& problem, float* ordered);
}  // namespace avx2
namespace avx512 {
void norm(const Problem& problem, int64_t first, int64_t last);
void order_scale(const Problem& problem, float* ordered);
}  // namespace avx512

namespace {

// Highest first. __builtin_cpu_supports also asks whether the operating system saves the registers.
const Candidate kCandidates[] = {
    {{"avx512", avx512::norm, avx512::order_scale},
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
     }},
    // Every CPU with AVX2 and FMA has F16C, which old compilers cannot ask for by name.
    {{"avx2", avx2::norm, avx2::order_scale},
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
    {{"x86-64-v2", v2::norm, v2::order_scale}, [] { return __builtin_cpu_supports("sse4.2") != 0; }},
};

// Zen 4, the one member of its family that has AVX-512, converts 8 float16 in half a cycle and 16 in one and a third.
bool prefers_avx2([[maybe_unused]] contract::ElementType type) {
#if defined(__clang__) || __GNUC__ >= 11  // older compilers do not know the family's name
  return type == contract::ElementType::kFloat16 && __builtin_cpu_is("amdfam19h");
#else
  return false;
#endif
}

constexpr const char* kNone = "the CPU lacks SSE4.2 (x86-64-v2)";
constexpr const char* kUnknown = "RMS_DEPLOY_ISA is not one of x86-64-v2, avx2, avx512";

}  // namespace

#else

namespace portable {
void norm(const Problem& problem, int64_t first, int64_t last);
void order_scale(const Problem& problem, float* ordered);
}  // namespace portable

namespace {

const Candidate kCandidates[] = {{{"portable", portable::norm, portable::order_scale}, [] { return true; }}};

bool prefers_avx2(contract::ElementType) { return false; }

constexpr const char* kNone = "no kernel for this CPU";
constexpr const char* kUnknown = "RMS_DEPLOY_ISA is not portable, the only level of this CPU family";

}  // namespace

#endif

const Level* select_level(const char* forced, const char** problem) {
  const bool any = forced == nullptr || *forced == '\0';
  for (const Candidate& candidate : kCandidates) {
    if (!any && std::strcmp(forced, candidate.level.name) != 0) {
      continue;
    }
    if (candidate.supported()) {
      return &candidate.level;
    }
    if (!any) {
      *problem = "the CPU lacks the instructions of the level that RMS_DEPLOY_ISA names";
      return nullptr;
    }
  }
  *problem = any ? kNone : kUnknown;
  return nullptr;
}

const Level* fastest_for_rows(const Level* highest, contract::ElementType type) {
  if (std::strcmp(highest->name, "avx512") == 0 && prefers_avx2(type)) {
    const char* problem = nullptr;
    return select_level("avx2", &problem);
  }
  return highest;
}

}  // namespace rms_deploy::cpu
