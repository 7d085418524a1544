# Looks for what compiles the CUDA kernels, sets RMS_DEPLOY_HAS_CUDA where all of it is there, and then defines
# rms_deploy_add_cuda_image. Three tools of CUDA do the work, and the CUDA language of CMake is not needed:
#
#   nvcc        CUDA C++ -> PTX
#   ptxas       PTX -> machine code of one GPU. The machine code of CUDA 13's ptxas needs driver 580 for every GPU; that of
#               CUDA 12's is read by every driver from 525 on. So ptxas 12 is taken where it knows the GPU.
#   fatbinary   all of it in one file, from which the driver takes what fits the GPU
#
# nvcc and fatbinary are, in this order, those that the user names (CMAKE_CUDA_COMPILER, CUDACXX), those from PyPI (build
# requirements in pyproject.toml, so that `pip install` needs no toolkit on the machine), and those of the system. Where
# something is missing, one line says what, and the rest is built.
option(RMS_DEPLOY_CUDA "Build the CUDA kernels where a CUDA compiler is found" ON)
set(RMS_DEPLOY_HAS_CUDA OFF)
if(NOT RMS_DEPLOY_CUDA OR RMS_DEPLOY_SANITIZE)
  return()
endif()

function(rms_deploy_release tool variable)
  execute_process(COMMAND "${tool}" --version OUTPUT_VARIABLE text ERROR_QUIET)
  string(REGEX MATCH "release ([0-9.]+)" text "${text}")
  set(${variable} "${CMAKE_MATCH_1}" PARENT_SCOPE)
endfunction()

if(CMAKE_CUDA_COMPILER)
  set(nvcc "${CMAKE_CUDA_COMPILER}")
elseif(DEFINED ENV{CUDACXX})
  set(nvcc "$ENV{CUDACXX}")
else()
  # CMAKE_PREFIX_PATH has the site-packages of the environment that builds.
  find_program(RMS_DEPLOY_NVCC nvcc PATH_SUFFIXES nvidia/cu13/bin PATHS /usr/local/cuda/bin)
  set(nvcc "${RMS_DEPLOY_NVCC}")
endif()
if(NOT nvcc)
  message(NOTICE "rms-deploy: built without CUDA: no nvcc; install nvidia-cuda-nvcc or a CUDA toolkit, or set CUDACXX")
  return()
endif()
rms_deploy_release("${nvcc}" nvcc_release)
if(NOT nvcc_release VERSION_GREATER_EQUAL 12.0)
  message(NOTICE "rms-deploy: built without CUDA: ${nvcc} is release '${nvcc_release}'; use 12.0 or newer")
  return()
endif()
get_filename_component(bin "${nvcc}" REALPATH)
get_filename_component(bin "${bin}" DIRECTORY)
foreach(tool ptxas fatbinary)
  find_program(RMS_DEPLOY_${tool} ${tool} NO_DEFAULT_PATH PATHS "${bin}")
  if(NOT RMS_DEPLOY_${tool})
    message(NOTICE "rms-deploy: built without CUDA: no ${tool} beside ${nvcc}; install all of the CUDA toolkit, or "
                   "nvidia-cuda-nvcc")
    return()
  endif()
endforeach()
find_program(RMS_DEPLOY_PTXAS_12 ptxas PATH_SUFFIXES nvidia/cuda_nvcc/bin NO_DEFAULT_PATH PATHS ${CMAKE_PREFIX_PATH})
mark_as_advanced(RMS_DEPLOY_NVCC RMS_DEPLOY_ptxas RMS_DEPLOY_fatbinary RMS_DEPLOY_PTXAS_12)

# nvcc reads the headers of the C++ compiler, and refuses one that is newer than itself.
set(nvcc_flags -std=c++17 -O3 "-I${CMAKE_CURRENT_SOURCE_DIR}")
if(NOT DEFINED ENV{CUDAHOSTCXX})
  list(APPEND nvcc_flags -ccbin "${CMAKE_CXX_COMPILER}")
else()
  list(APPEND nvcc_flags -ccbin "$ENV{CUDAHOSTCXX}")
endif()
set(probe "${CMAKE_CURRENT_BINARY_DIR}/cuda/probe")
file(WRITE "${probe}.cu" "#include <cstdint>\n__global__ void probe(int64_t* to) { *to = 1; }\n")
execute_process(
  COMMAND "${nvcc}" ${nvcc_flags} -arch=compute_80 -ptx "${probe}.cu" -o "${probe}.ptx"
  RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET
)
if(failed)
  message(NOTICE "rms-deploy: built without CUDA: ${nvcc} does not work with ${CMAKE_CXX_COMPILER}; set CUDAHOSTCXX to a "
                 "C++ compiler that it supports")
  return()
endif()

# The assemblers, the one for old drivers first.
set(assemblers "${RMS_DEPLOY_ptxas}")
if(RMS_DEPLOY_PTXAS_12)
  list(PREPEND assemblers "${RMS_DEPLOY_PTXAS_12}")
endif()
list(GET assemblers 0 first)
rms_deploy_release("${first}" ptxas_release)
if(ptxas_release VERSION_LESS 13)
  set(RMS_DEPLOY_CUDA_DRIVER 12000) # as cuDriverGetVersion counts; driver 525
else()
  set(RMS_DEPLOY_CUDA_DRIVER 13000)
  message(NOTICE "rms-deploy: the CUDA kernels need driver 580: ${first} is release ${ptxas_release}; for drivers from 525 "
                 "on, install nvidia-cuda-nvcc-cu12==12.9.*")
endif()
set(RMS_DEPLOY_CUDA_COMPILER "nvcc ${nvcc_release}, ptxas ${ptxas_release}")
set(RMS_DEPLOY_HAS_CUDA ON)

# The first assembler that knows the GPU; empty if none does.
function(rms_deploy_assembler_of gpu variable)
  foreach(assembler IN LISTS assemblers)
    execute_process(COMMAND "${assembler}" --help OUTPUT_VARIABLE help ERROR_QUIET)
    if(help MATCHES "sm_${gpu}[^0-9a-z]")
      set(${variable} "${assembler}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${variable} "" PARENT_SCOPE)
endfunction()

# Those of these GPUs that there is an assembler for.
function(rms_deploy_known_gpus variable)
  foreach(gpu IN LISTS ARGN)
    rms_deploy_assembler_of(${gpu} assembler)
    if(assembler)
      list(APPEND known ${gpu})
    else()
      message(NOTICE "rms-deploy: no machine code for compute capability ${gpu}: no ptxas here knows it; its driver compiles "
                     "the kernels' PTX when they are first loaded")
    endif()
  endforeach()
  set(${variable} "${known}" PARENT_SCOPE)
endfunction()

# Compiles `source` for these GPUs (compute capabilities without the dot) into the fat binary `image`. The PTX for 8.0 and
# for 9.0 stays in it, for GPUs that there is no machine code for: from 9.0 on all code waits for the kernel before it.
#
# PTX names the version that its compiler speaks, and an older reader refuses a newer one. Here it names the version that
# the instructions need, 7.8 for those of 9.0: ptxas refuses an instruction that is not in it. Driver 525 reads 8.0 and
# older. A hint of 8.3, which bytes of a wide load are used, is left out.
function(rms_deploy_add_cuda_image image source)
  cmake_path(REMOVE_EXTENSION image OUTPUT_VARIABLE folder)
  file(MAKE_DIRECTORY "${folder}")
  set(source "${CMAKE_CURRENT_SOURCE_DIR}/${source}")
  foreach(virtual 75 80 90)
    set(ptx "${folder}/compute_${virtual}.ptx")
    set(ptx_version 7.0)
    if(virtual EQUAL 90)
      set(ptx_version 7.8)
    endif()
    add_custom_command(
      OUTPUT "${ptx}"
      COMMAND "${nvcc}" ${nvcc_flags} -arch=compute_${virtual} -ptx "${source}" -o "${ptx}" -MD -MF "${ptx}.d"
      COMMAND sed -i -e "s/^\\.version .*/.version ${ptx_version}/" -e "/\\.pragma \"used_bytes_mask /d" "${ptx}"
      DEPENDS "${source}" DEPFILE "${ptx}.d" VERBATIM
    )
  endforeach()
  foreach(virtual 80 90)
    list(APPEND images --image3=kind=ptx,sm=${virtual},file=${folder}/compute_${virtual}.ptx)
    list(APPEND files "${folder}/compute_${virtual}.ptx")
  endforeach()
  foreach(gpu IN LISTS ARGN)
    rms_deploy_assembler_of(${gpu} assembler)
    set(virtual 75)
    if(NOT gpu LESS 90)
      set(virtual 90)
    elseif(NOT gpu LESS 80)
      set(virtual 80)
    endif()
    set(cubin "${folder}/sm_${gpu}.cubin")
    add_custom_command(
      OUTPUT "${cubin}"
      COMMAND "${assembler}" -O3 -arch=sm_${gpu} "${folder}/compute_${virtual}.ptx" -o "${cubin}"
      DEPENDS "${folder}/compute_${virtual}.ptx" VERBATIM
    )
    list(APPEND images --image3=kind=elf,sm=${gpu},file=${cubin})
    list(APPEND files "${cubin}")
  endforeach()
  # Drivers before 550 do not know the compression that CUDA 13 takes by default.
  set(compression --compress-all)
  execute_process(COMMAND "${RMS_DEPLOY_fatbinary}" --help OUTPUT_VARIABLE help ERROR_QUIET)
  if(help MATCHES "--compress-mode")
    list(APPEND compression --compress-mode=speed)
  endif()
  add_custom_command(
    OUTPUT "${image}"
    COMMAND "${RMS_DEPLOY_fatbinary}" -64 ${compression} "--create=${image}" ${images}
    DEPENDS ${files} VERBATIM
  )
endfunction()
