// What the host and the kernels agree on: the argument of a kernel, and the threads of its blocks.
#pragma once

#include "kernels/problem.h"

namespace rms_deploy::cuda {

inline constexpr int kWarp = 32;

// The argument of every kernel. The kernels take it as __grid_constant__, or nvcc copies one of more than 128 bytes and
// reads the copy.
struct Arguments {
  Problem problem;
  int64_t first;       // row, or tile of columns, of the first block
  int64_t tiles;       // columns: tiles of one outer index
  float inverse_size;  // 1 / statistics_size
  uint8_t fold;        // columns: 1; or 2, where two rows are taken as one
  bool whole_vectors;  // rows that are not aligned: all tensors have the same misalignment
};

// Threads of a block of norm_rows. A thread may have 64 registers in a block of 1024, and 255 in one of 256.
template <int kVectors>
inline constexpr int kMaxThreads = kVectors <= 4 ? 1024 : 256;

inline constexpr int kAnyRowThreads = 512;
inline constexpr int kAnyRowVectors = 2;
inline constexpr int kSharedRowThreads = 1024;
inline constexpr int kSharedRowVectors = 2;

// Most threads of a block of norm_columns, whose accesses have so many bytes. A thread may have 128 registers where it
// holds columns of 16 bytes, and 64 where it holds fewer.
template <int kBytes>
inline constexpr int kMaxColumnThreads = kBytes == 16 ? 256 : 1024;

inline constexpr int kHeld = 8;  // elements of a column that a thread keeps in registers

}  // namespace rms_deploy::cuda
