#include "torch/pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

namespace rms_deploy::torch {

namespace {

struct Job {
  Task task;
  void* data;
  int64_t count;
  std::fenv_t environment;  // of the caller: whether it flushes subnormals
  std::atomic<int64_t> next{0};
  std::atomic<int> workers{0};

  void work() {
    const int worker = workers.fetch_add(1);
    for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      task(data, i, worker);
    }
  }
};

// Helpers that wait for a job. One job at a time.
class Pool {
 public:
  pid_t process() const { return process_; }

  // False, and nothing done, while another job runs.
  bool run(Job& job, int helpers) {
    const std::unique_lock<std::mutex> busy(busy_, std::try_to_lock);
    if (!busy.owns_lock()) {
      return false;
    }
    start(helpers);
    const int called = std::min(helpers, started_);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      wanted_ = called;
    }
    for (int i = 0; i < called; ++i) {
      wake_.notify_one();
    }
    job.work();
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = nullptr;  // a helper that did not wake in time is not needed
    wanted_ = 0;
    done_.wait(lock, [this] { return working_ == 0; });
    return true;
  }

 private:
  void start(int helpers) {
    try {
      for (; started_ < helpers; ++started_) {
        std::thread(&Pool::help, this).detach();
      }
    } catch (const std::exception&) {  // no thread or no memory for one: fewer helpers
    }
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return wanted_ > 0; });
      --wanted_;
      ++working_;
      Job& job = *job_;
      lock.unlock();
      std::fesetenv(&job.environment);
      job.work();
      lock.lock();
      if (--working_ == 0) {
        done_.notify_one();
      }
    }
  }

  const pid_t process_ = getpid();
  std::mutex busy_;
  int started_ = 0;
  std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  std::condition_variable done_;
  Job* job_ = nullptr;
  int wanted_ = 0;   // helpers that the job still takes
  int working_ = 0;  // helpers that are in it
};

// Null where there is no memory. Pools are never destroyed: helpers wait in them until the process ends. After a fork
// the child has the memory of its parent's pool, in whatever state, but not its threads, so it makes a pool of its own.
Pool* pool() {
  static std::atomic<Pool*> current{nullptr};
  Pool* found = current.load(std::memory_order_acquire);
  if (found != nullptr && found->process() == getpid()) {
    return found;
  }
  Pool* made = new (std::nothrow) Pool;
  if (made != nullptr && !current.compare_exchange_strong(found, made, std::memory_order_acq_rel)) {
    delete made;  // another thread made one first
    return found;
  }
  return made;
}

}  // namespace

void run_tasks(int64_t count, int threads, Task task, void* data) noexcept {
  Job job{task, data, count, {}, {}, {}};
  const int helpers = static_cast<int>(std::min<int64_t>(threads, count)) - 1;
  if (helpers > 0) {
    std::fegetenv(&job.environment);
    if (Pool* const helping = pool(); helping != nullptr && helping->run(job, helpers)) {
      return;
    }
  }
  job.work();
}

}  // namespace rms_deploy::torch
