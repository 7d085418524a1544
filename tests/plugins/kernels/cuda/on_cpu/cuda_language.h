// CUDA's language on a CPU, as far as the kernels need it: a launch runs its blocks one after the other, and the
// threads of a block as fibres that give way at barriers and shuffles only. A fibre runs as far as it can before the
// next one starts, so a missing barrier shows: the one that runs first reads what the others have not yet written, and
// shared memory starts as 3e6 (not as NaN, which the kernels mend by another sum). `reverse` starts with the last
// thread, for what the first order hides.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __grid_constant__
#define __launch_bounds__(...)
// All shared variables lie in one section, which is filled before each block.
#define __shared__ static __attribute__((section("cuda_shared")))

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct uint4 {
  unsigned x, y, z, w;
};

extern unsigned char __start_cuda_shared, __stop_cuda_shared;

namespace cuda_on_cpu {

constexpr size_t kStack = 64 << 10;
constexpr unsigned kWarp = 32;
inline bool reverse = false;  // starts with the last thread

struct Barrier {
  unsigned size = 0, arrived = 0, generation = 0;
  bool any = false, all_any = false;
};

struct Fibre {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(kStack);
  dim3 index;
  bool done = false;
};

inline std::vector<Fibre> fibres;
inline std::vector<Barrier> warps;
inline std::vector<uint64_t> exchanged;  // one word per thread
inline Barrier block;
inline ucontext_t scheduler;
inline unsigned current = 0;
inline unsigned long progress = 0;
inline dim3 thread_index, block_index, block_size, grid_size;
inline std::vector<uint64_t> dynamic_shared;  // what a launch asks for; two words more, for 16-byte alignment
inline void (*kernel_call)(const void*) = nullptr;
inline const void* kernel_argument = nullptr;

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "cuda_on_cpu: %s\n", what);
  std::abort();
}

inline void* shared_bytes() {
  return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(dynamic_shared.data()) + 15) / 16 * 16);
}

inline void give_way() { swapcontext(&fibres[current].context, &scheduler); }

// Waits for all threads of the barrier. Returns whether any of them brought true.
inline bool wait(Barrier& barrier, bool value = false) {
  ++progress;
  barrier.any = barrier.any || value;
  const unsigned generation = barrier.generation;
  if (++barrier.arrived == barrier.size) {
    barrier.all_any = barrier.any;
    barrier.any = false;
    barrier.arrived = 0;
    ++barrier.generation;
  }
  while (barrier.generation == generation) {
    give_way();
  }
  return barrier.all_any;
}

inline void run_fibre() {
  kernel_call(kernel_argument);
  fibres[current].done = true;
  ++progress;
  give_way();
}

inline void run_block() {
  const unsigned threads = block_size.x * block_size.y * block_size.z;
  std::memset(&__start_cuda_shared, 0x4a, static_cast<size_t>(&__stop_cuda_shared - &__start_cuda_shared));
  std::memset(dynamic_shared.data(), 0x4a, dynamic_shared.size() * sizeof(uint64_t));
  if (fibres.size() < threads) {
    fibres.resize(threads);
  }
  exchanged.assign(threads, 0);
  block = Barrier{threads};
  warps.assign((threads + kWarp - 1) / kWarp, Barrier{kWarp});
  for (unsigned i = 0; i < threads; ++i) {
    Fibre& fibre = fibres[i];
    fibre.index = dim3(i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y);
    fibre.done = false;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.data();
    fibre.context.uc_stack.ss_size = kStack;
    makecontext(&fibre.context, run_fibre, 0);
  }
  for (unsigned left = threads; left > 0;) {
    const unsigned long before = progress;
    for (unsigned i = 0; i < threads; ++i) {
      current = reverse ? threads - 1 - i : i;
      if (!fibres[current].done) {
        thread_index = fibres[current].index;
        swapcontext(&scheduler, &fibres[current].context);
        left -= fibres[current].done ? 1 : 0;
      }
    }
    if (progress == before) {
      fail("threads wait at a barrier that others never reach");
    }
  }
}

template <class T>
T shuffle_xor(T value, int mask) {
  const unsigned self = current;
  Barrier& warp = warps[self / kWarp];
  std::memcpy(&exchanged[self], &value, sizeof value);
  wait(warp);
  std::memcpy(&value, &exchanged[self ^ static_cast<unsigned>(mask)], sizeof value);
  wait(warp);  // before the next shuffle overwrites it
  return value;
}

}  // namespace cuda_on_cpu

#define threadIdx (cuda_on_cpu::thread_index)
#define blockIdx (cuda_on_cpu::block_index)
#define blockDim (cuda_on_cpu::block_size)
#define gridDim (cuda_on_cpu::grid_size)

inline void check_lanes(unsigned lanes) {
  if (lanes != 0xffffffffU) {
    cuda_on_cpu::fail("only whole warps are emulated");
  }
}
template <class T>
T __shfl_xor_sync(unsigned lanes, T value, int mask) {
  check_lanes(lanes);
  return cuda_on_cpu::shuffle_xor(value, mask);
}
inline bool __any_sync(unsigned lanes, bool value) {
  check_lanes(lanes);
  return cuda_on_cpu::wait(cuda_on_cpu::warps[cuda_on_cpu::current / cuda_on_cpu::kWarp], value);
}
inline void __syncthreads() { cuda_on_cpu::wait(cuda_on_cpu::block); }
inline bool __syncthreads_or(bool value) { return cuda_on_cpu::wait(cuda_on_cpu::block, value); }

template <class T>
T loaded(const T* from) {
  if (reinterpret_cast<uintptr_t>(from) % sizeof(T) != 0) {
    cuda_on_cpu::fail("misaligned load");
  }
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <class T>
T __ldg(const T* from) {
  return loaded(from);
}
template <class T>
T __ldcg(const T* from) {
  return loaded(from);
}
template <class T>
void __stcg(T* to, T value) {
  if (reinterpret_cast<uintptr_t>(to) % sizeof(T) != 0) {
    cuda_on_cpu::fail("misaligned store");
  }
  std::memcpy(to, &value, sizeof value);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32) | low) >> (shift % 32));
}
