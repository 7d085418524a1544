# Enables the CUDA language where a compiler for it is found, and sets RMS_DEPLOY_HAS_CUDA. In this order: the compiler
# that the user names (CMAKE_CUDA_COMPILER, CUDACXX), nvcc from PyPI (a build requirement in pyproject.toml, so that
# `pip install` needs no toolkit on the machine), and the toolkit of the system.
option(RMS_DEPLOY_CUDA "Build the CUDA kernels where a CUDA compiler is found" ON)
set(RMS_DEPLOY_HAS_CUDA OFF)
if(NOT RMS_DEPLOY_CUDA OR RMS_DEPLOY_SANITIZE)
  return() # g++'s sanitizers know nothing of nvcc
endif()

if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  # CMAKE_PREFIX_PATH has the site-packages of the environment that builds.
  find_program(RMS_DEPLOY_NVCC nvcc PATH_SUFFIXES nvidia/cu13/bin NO_SYSTEM_ENVIRONMENT_PATH)
  mark_as_advanced(RMS_DEPLOY_NVCC)
  if(RMS_DEPLOY_NVCC MATCHES "/nvidia/cu13/bin/nvcc$")
    get_filename_component(RMS_DEPLOY_CUDA_ROOT "${RMS_DEPLOY_NVCC}/../.." ABSOLUTE)
    set(CMAKE_CUDA_COMPILER "${RMS_DEPLOY_NVCC}")
    # Its libraries lie in lib; nvcc and CMake's check of the compiler look in lib64.
    set(ENV{LIBRARY_PATH} "${RMS_DEPLOY_CUDA_ROOT}/lib:$ENV{LIBRARY_PATH}")
  endif()
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  # A GPU runs the code of its own major version with a minor version up to its own. 100 and 120 bring PTX too, for
  # Thor (11.0) and for what comes after 12.1.
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90-real 100 120)
endif()
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
    message(NOTICE "rms-deploy: built without CUDA: nvcc ${CMAKE_CUDA_COMPILER_VERSION} is older than 12.8, the first for "
                   "compute capability 12.0")
  else()
    # Not find_package(CUDAToolkit): it insists on a libcudart.so, which PyPI's runtime does not have.
    find_library(
      RMS_DEPLOY_CUDART cudart_static HINTS "${RMS_DEPLOY_CUDA_ROOT}/lib" ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES}
      REQUIRED
    )
    mark_as_advanced(RMS_DEPLOY_CUDART)
    set(RMS_DEPLOY_HAS_CUDA ON)
  endif()
else()
  message(NOTICE "rms-deploy: built without CUDA: no nvcc; install nvidia-cuda-nvcc from PyPI or a CUDA toolkit, or set "
                 "CUDACXX")
endif()
