// The interface of the CUDA kernels: a problem and a stream. It knows no framework. Nothing here allocates,
// synchronises or throws, so that a launch may be captured into a CUDA graph.
#pragma once

#include <cstdint>

#include "kernels/cuda/driver.h"
#include "kernels/problem.h"

namespace rms_deploy::cuda {

using Stream = CUstream_st*;  // cudaStream_t is the same

// Kernels that compete for a problem; 0 lets `launch` choose by size. 1, 2, 4, 8: packs of 16 bytes that each thread
// keeps in registers; 16: several blocks per row, at least four. A tactic that does not fit the problem or its pointers
// (rows that are not aligned; 16 where an output has the memory of an input) is taken as 0.
using Tactic = int32_t;
inline constexpr Tactic kAutomatic = 0;
inline constexpr int32_t kMaxTactics = 5;

// The tactics other than kAutomatic that can run this problem (its pointers are not read). Returns how many.
int32_t tactics(const Problem& problem, Tactic (&found)[kMaxTactics]);

// Loads every kernel into the current context, so that no launch loads one during a capture.
[[nodiscard]] Error prepare();

// Enqueues the kernel. An empty tensor enqueues nothing. Returns the launch's error.
[[nodiscard]] Error launch(const Problem& problem, Tactic tactic, Stream stream);

}  // namespace rms_deploy::cuda
