"""Our declarations of the driver's functions against the official header, as the compiler sees both."""

from __future__ import annotations

import re

import pytest

from .compiling import PLUGINS, run

pytestmark = pytest.mark.slow

PROGRAM = """
#include <cuda.h>
#include <cstddef>
#include <type_traits>
#include "kernels/cuda/driver.h"
using namespace rms_deploy::cuda;

// An enumeration of the header may be an int of ours.
template <class A, class B>
constexpr bool is_same() {
  if constexpr (std::is_pointer_v<A> && std::is_pointer_v<B>) {
    return is_same<std::remove_pointer_t<A>, std::remove_pointer_t<B>>();
  } else if constexpr (std::is_enum_v<A> || std::is_enum_v<B>) {
    return sizeof(A) == sizeof(B);
  } else {
    return std::is_same_v<A, B>;
  }
}
template <class A, class... As, class B, class... Bs>
constexpr bool same(A (*)(As...), B (*)(Bs...)) {
  if constexpr (sizeof...(As) == sizeof...(Bs)) {
    return is_same<A, B>() && (is_same<As, Bs>() && ...);
  }
  return false;
}
#define CHECK(name, arguments) static_assert(same(decltype(&name){}, decltype(Driver::name){}), #name);
RMS_DEPLOY_CUDA_FUNCTIONS(CHECK)
static_assert(static_cast<int>(CUDA_ERROR_INVALID_VALUE) == static_cast<int>(Error::kInvalidValue));
static_assert(static_cast<int>(CUDA_ERROR_NOT_INITIALIZED) == static_cast<int>(Error::kNotInitialized));
static_assert(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT == kMultiprocessorCount);
static_assert(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN == kMaxSharedBytes);
static_assert(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES == kDynamicSharedBytes);
static_assert(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK == kMaxThreadsPerBlock);
static_assert(CU_FUNC_ATTRIBUTE_PTX_VERSION == kPtxVersion);
static_assert(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION == kProgrammaticLaunch);

#define SAME_PLACE(Theirs, theirs, Ours, ours) static_assert(offsetof(Theirs, theirs) == offsetof(Ours, ours));
static_assert(sizeof(CUlaunchConfig) == sizeof(LaunchConfig) && sizeof(CUlaunchAttribute) == sizeof(LaunchAttribute));
SAME_PLACE(CUlaunchConfig, gridDimX, LaunchConfig, grid_x)
SAME_PLACE(CUlaunchConfig, gridDimZ, LaunchConfig, grid_z)
SAME_PLACE(CUlaunchConfig, blockDimX, LaunchConfig, block_x)
SAME_PLACE(CUlaunchConfig, sharedMemBytes, LaunchConfig, shared_bytes)
SAME_PLACE(CUlaunchConfig, hStream, LaunchConfig, stream)
SAME_PLACE(CUlaunchConfig, attrs, LaunchConfig, attributes)
SAME_PLACE(CUlaunchConfig, numAttrs, LaunchConfig, attribute_count)
SAME_PLACE(CUlaunchAttribute, id, LaunchAttribute, id)
SAME_PLACE(CUlaunchAttribute, value.programmaticStreamSerializationAllowed, LaunchAttribute, value)
"""


@pytest.mark.parametrize("broken", [False, True])
def test_each_function(nvcc, tmp_path, broken):
    """The header gives some functions a newer name by a macro; old drivers have none of that name."""
    text = (PLUGINS / "kernels/cuda/driver.h").read_text()
    if broken:
        text = text.replace("(int* device, int ordinal)", "(int* device, int64_t ordinal)")
    (tmp_path / "kernels/cuda").mkdir(parents=True)
    (tmp_path / "kernels/cuda/driver.h").write_text(text)
    names = re.findall(r"\bF\((cu\w+),", text)
    assert len(names) == 17
    macros = "".join(f"#ifdef {name}\n#error {name} has another name\n#endif\n" for name in names)
    (tmp_path / "check.cpp").write_text(PROGRAM + macros)
    command = [nvcc, "-std=c++17", f"-I{tmp_path}", "-c", tmp_path / "check.cpp", "-o", tmp_path / "check.o"]
    if broken:
        with pytest.raises(AssertionError, match="static assertion failed: cuDeviceGet"):
            run(command)
    else:
        run(command)
