// Threads for one call: torch's own are behind headers, and a second OpenMP in the process would bring its own pool.
#pragma once

#include <cstdint>

namespace rms_deploy::torch {

// `index` is that of the task; `worker` numbers the threads of the call from 0. A task must not throw.
using Task = void (*)(void* data, int64_t index, int worker);

// Calls task(data, i, worker) for every i in 0 ... count - 1, on up to `threads` threads, of which the caller is one.
// The others are kept for the next call; where they work for another call, or the system gives none, the caller does
// all alone. The process may fork: the child starts with no threads.
void run_tasks(int64_t count, int threads, Task task, void* data) noexcept;

}  // namespace rms_deploy::torch
