# Enables the CUDA language where a compiler for it is found, and sets RMS_DEPLOY_HAS_CUDA, and RMS_DEPLOY_CUDA_ALL
# unless the user names the GPUs to compile for (CMAKE_CUDA_ARCHITECTURES). In this order: the compiler
# that the user names (CMAKE_CUDA_COMPILER, CUDACXX), nvcc from PyPI (a build requirement in pyproject.toml, so that
# `pip install` needs no toolkit on the machine), and the toolkit of the system. Where none works, one line says why, and
# the rest is built.
option(RMS_DEPLOY_CUDA "Build the CUDA kernels where a CUDA compiler is found" ON)
set(RMS_DEPLOY_HAS_CUDA OFF)
if(NOT RMS_DEPLOY_CUDA OR RMS_DEPLOY_SANITIZE)
  return() # nvcc does not take the flags of the sanitizers
endif()

if(CMAKE_CUDA_COMPILER)
  set(nvcc "${CMAKE_CUDA_COMPILER}")
elseif(DEFINED ENV{CUDACXX})
  set(nvcc "$ENV{CUDACXX}")
else()
  # CMAKE_PREFIX_PATH has the site-packages of the environment that builds.
  find_program(RMS_DEPLOY_NVCC nvcc PATH_SUFFIXES nvidia/cu13/bin PATHS /usr/local/cuda/bin)
  mark_as_advanced(RMS_DEPLOY_NVCC)
  set(nvcc "${RMS_DEPLOY_NVCC}")
endif()
if(NOT nvcc)
  message(NOTICE "rms-deploy: built without CUDA: no nvcc; install nvidia-cuda-nvcc or a CUDA toolkit, or set CUDACXX")
  return()
endif()
execute_process(COMMAND "${nvcc}" --version OUTPUT_VARIABLE version ERROR_QUIET)
string(REGEX MATCH "release ([0-9.]+)" version "${version}")
if(NOT CMAKE_MATCH_1 VERSION_GREATER_EQUAL 12.8)
  message(NOTICE "rms-deploy: built without CUDA: ${nvcc} is release ${CMAKE_MATCH_1}; 12.8 is the first for GPUs of "
                 "compute capability 12.0")
  return()
endif()

get_filename_component(root "${nvcc}/../.." ABSOLUTE)
if(root MATCHES "/nvidia/cu13$")
  # Its libraries lie in lib; nvcc and CMake's check of the compiler look in lib64.
  set(ENV{LIBRARY_PATH} "${root}/lib:$ENV{LIBRARY_PATH}")
endif()
set(RMS_DEPLOY_CUDA_ALL OFF)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(RMS_DEPLOY_CUDA_ALL ON) # CMakeLists.txt says for which GPUs
  set(CMAKE_CUDA_ARCHITECTURES 80)
endif()
if(NOT CMAKE_CUDA_COMPILER)
  set(ENV{CUDACXX} "${nvcc}")
  include(CheckLanguage)
  check_language(CUDA) # no error where it does not get on with the C++ compiler
endif()
if(NOT CMAKE_CUDA_COMPILER)
  message(NOTICE "rms-deploy: built without CUDA: ${nvcc} does not work with ${CMAKE_CXX_COMPILER}; set CUDAHOSTCXX to a "
                 "C++ compiler that it supports")
  return()
endif()
enable_language(CUDA)
# Not find_package(CUDAToolkit): it insists on a libcudart.so, which PyPI's runtime does not have.
find_library(RMS_DEPLOY_CUDART cudart_static HINTS "${root}/lib" ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} REQUIRED)
mark_as_advanced(RMS_DEPLOY_CUDART)
set(RMS_DEPLOY_HAS_CUDA ON)
