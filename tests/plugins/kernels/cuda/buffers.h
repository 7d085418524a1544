// Buffers of a test in host memory, and copies of them in device memory. A buffer has room around its tensor, which
// comes back too, so that the caller sees what was written outside.
#pragma once

#include <cstdint>

#include "device.h"

struct Buffer {
  void* host;      // null: the tensor is absent
  int64_t bytes;   // of the whole buffer
  int64_t offset;  // of the tensor in it, in bytes
};

// A copy of a buffer in device memory.
class OnDevice {
 public:
  explicit OnDevice(const Buffer& buffer) : buffer_(buffer) {
    if (buffer.host != nullptr) {
      error_ = device::allocate(&memory_, static_cast<size_t>(buffer.bytes));
      if (error_ == 0) {
        error_ = device::upload(memory_, buffer.host, static_cast<size_t>(buffer.bytes));
      }
    }
  }
  ~OnDevice() { static_cast<void>(device::release(memory_)); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  void* tensor() const { return memory_ == nullptr ? nullptr : static_cast<char*>(memory_) + buffer_.offset; }
  int error() const { return error_; }
  int copy_back() const {
    return memory_ == nullptr ? 0 : device::download(buffer_.host, memory_, static_cast<size_t>(buffer_.bytes));
  }

 private:
  Buffer buffer_;
  void* memory_ = nullptr;
  int error_ = 0;
};
