// What is in a fat binary, and what of it a driver of some version takes for a GPU.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace fatbin {

enum Error { kSuccess = 0, kInvalidImage = 200, kNoBinaryForGpu = 209, kUnsupportedPtx = 222 };  // CUresult

struct Header {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;
};

struct Entry {
  uint16_t kind, version;  // kind 1: PTX; 2: machine code
  uint32_t header_bytes;
  uint64_t bytes;
  uint32_t compressed_bytes, options;
  uint16_t minor, major;
  uint32_t gpu, name_offset, name_bytes;
  uint64_t flags, zero, plain_bytes;
};

inline constexpr uint32_t kMagic = 0xBA55ED50;
inline constexpr uint64_t kLz4 = 0x2000, kZstd = 0x8000;

struct Code {
  bool is_ptx;
  int gpu;
  bool is_zstd;
  std::string bytes;  // empty where the compression is not known here
};

// One LZ4 block.
inline std::string unpacked(const unsigned char* from, size_t bytes, size_t plain_bytes) {
  std::string out;
  const unsigned char* end = from + bytes;
  const auto length = [&](size_t first) {
    for (unsigned char more = 255; first >= 15 && more == 255 && from < end;) {
      more = *from++;
      first += more;
      if (more != 255) {
        break;
      }
    }
    return first;
  };
  while (from < end && out.size() < plain_bytes) {
    const unsigned token = *from++;
    const size_t literals = length(token >> 4);
    out.append(reinterpret_cast<const char*>(from), literals);
    from += literals;
    if (from + 2 > end || out.size() >= plain_bytes) {
      break;
    }
    const size_t offset = from[0] | from[1] << 8;
    from += 2;
    for (size_t left = length(token & 15) + 4; left > 0; --left) {
      out.push_back(out[out.size() - offset]);
    }
  }
  return out;
}

inline std::vector<Code> codes_of(const void* image) {
  const unsigned char* at = static_cast<const unsigned char*>(image);
  Header header;
  std::memcpy(&header, at, sizeof header);
  std::vector<Code> codes;
  const unsigned char* end = at + header.header_bytes + header.bytes;
  for (at += header.header_bytes; at < end;) {
    Entry entry;
    std::memcpy(&entry, at, sizeof entry);
    const unsigned char* data = at + entry.header_bytes;
    Code code{entry.kind == 1, static_cast<int>(entry.gpu), (entry.flags & kZstd) != 0, ""};
    if ((entry.flags & kLz4) != 0) {
      code.bytes = unpacked(data, entry.compressed_bytes, entry.plain_bytes);
    } else if (!code.is_zstd) {
      code.bytes.assign(reinterpret_cast<const char*>(data), entry.bytes);
    }
    codes.push_back(code);
    at = data + entry.bytes;
  }
  return codes;
}

// The compute capability of the PTX that code was made of: ELF's flags have it in their third byte, up to ABI 7.
inline int virtual_gpu(const Code& code) {
  const bool has_flags = !code.is_ptx && code.bytes.size() > 51 && code.bytes[8] <= 7;
  return has_flags ? static_cast<unsigned char>(code.bytes[50]) : code.gpu;
}

inline bool is_jetson(int gpu) { return gpu == 72 || gpu == 87 || gpu == 101 || gpu == 110; }

// `driver` as cuDriverGetVersion counts.
inline Error choose(const std::vector<Code>& codes, int gpu, int driver, const Code*& chosen) {
  chosen = nullptr;
  for (const Code& code : codes) {
    const bool fits =
        is_jetson(gpu) || is_jetson(code.gpu) ? code.gpu == gpu : code.gpu / 10 == gpu / 10 && code.gpu <= gpu;
    if (!code.is_ptx && fits && (chosen == nullptr || code.gpu > chosen->gpu)) {
      chosen = &code;
    }
  }
  const bool reads_zstd = driver >= 12040;
  if (chosen != nullptr) {
    // ELF, whose byte 8 is the version of NVIDIA's ABI. 8 came with the GPUs from 10.0 on, and with CUDA 13 for all.
    const int abi = chosen->bytes.size() > 8 ? chosen->bytes[8] : 0;
    const int newest = driver >= 13000 || (driver >= 12080 && chosen->gpu >= 100) ? 8 : 7;
    return (chosen->is_zstd && !reads_zstd) || abi > newest ? kInvalidImage : kSuccess;
  }
  for (const Code& code : codes) {
    if (code.is_ptx && code.gpu <= gpu && (chosen == nullptr || code.gpu > chosen->gpu)) {
      chosen = &code;
    }
  }
  if (chosen == nullptr) {
    return kNoBinaryForGpu;
  }
  int major = 0, minor = 0;
  const size_t at = chosen->bytes.find("\n.version ");
  std::sscanf(chosen->bytes.c_str() + (at == std::string::npos ? 0 : at), "\n.version %d.%d", &major, &minor);
  const int newest = driver < 12000 ? 78 : driver < 12020 ? 80 : driver < 12080 ? 82 : driver < 13000 ? 87 : 90;
  return (chosen->is_zstd && !reads_zstd) || major == 0 || 10 * major + minor > newest ? kUnsupportedPtx : kSuccess;
}

}  // namespace fatbin
