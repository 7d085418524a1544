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

// __builtin_cpu_supports also asks whether the operating system saves the registers.
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

}  // namespace rms_deploy::cpu
