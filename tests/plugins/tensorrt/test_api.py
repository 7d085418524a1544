"""Our declarations of TensorRT's interface against the official headers: what the compiler makes of both is the same.

The headers are those of TENSORRT_INCLUDE_DIR, or of TensorRT 10.14 as a package of the index carries them.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HOST = Path(__file__).parent / "host"
OFFICIAL = "-DRMS_DEPLOY_TENSORRT_HEADERS"

CLASSES = ["IVersionedInterface", "IPluginCapability", "IPluginCreatorInterface", "IPluginV3", "IPluginV3OneCore"]
CLASSES += ["IPluginV3OneBuild", "IPluginV3OneRuntime", "IPluginCreatorV3One"]
FIELDS = {
    "Dims": ["nbDims", "d"],
    "DimsExprs": ["nbDims", "d"],
    "PluginTensorDesc": ["dims", "type", "format", "scale"],
    "DynamicPluginTensorDesc": ["desc", "min", "max", "opt"],
    "PluginField": ["name", "data", "type", "length"],
    "PluginFieldCollection": ["nbFields", "fields"],
    "InterfaceInfo": ["kind", "major", "minor"],
}
ENUMERATORS = {
    "DataType": ["kFLOAT", "kHALF", "kINT8", "kFP8", "kBF16"],
    "TensorFormat": ["kLINEAR"],
    "APILanguage": ["kCPP"],
    "TensorRTPhase": ["kBUILD", "kRUNTIME"],
    "PluginCapabilityType": ["kCORE", "kBUILD", "kRUNTIME"],
    "PluginFieldType": ["kFLOAT32", "kINT32", "kUNKNOWN", "kINT64"],
}
PROGRAM = """
#include "tensorrt/creator.h"
#include "tensorrt/logger_layouts.h"
#include "tensorrt/plugin.h"
#include <cstddef>
#include <cstdio>
using namespace nvinfer1;
alignas(8) const char object[64] = {};  // never looked into: the functions return constants
#define SIZE(type) std::printf(#type " %zu %zu\\n", sizeof(type), alignof(type))
#define OFFSET(type, member) std::printf(#type "." #member " %zu\\n", offsetof(type, member))
#define VALUE(type, name) std::printf(#type "::" #name " %d\\n", static_cast<int>(type::name))
#define INFO(type) print(#type, reinterpret_cast<const type*>(object)->type::getInterfaceInfo())
void print(const char* type, InterfaceInfo info) {
  std::printf("%s %s %d %d\\n", type, info.kind, static_cast<int>(info.major), static_cast<int>(info.minor));
}
"""


def program():
    lines = [f"SIZE({name});" for name in (*FIELDS, *ENUMERATORS)]
    lines += [f"OFFSET({name}, {member});" for name, members in FIELDS.items() for member in members]
    lines += [f"VALUE({name}, {value});" for name, values in ENUMERATORS.items() for value in values]
    lines += [f"INFO({name});" for name in CLASSES[3:]]
    return PROGRAM + "int main() {\nVALUE(Dims, MAX_DIMS);\n" + "\n".join(lines) + "\n}\n"


def seen(gxx, folder, *options):
    """What the program prints, and what g++ says of each class: its size, and its vtable slot by slot."""
    folder.mkdir()
    (folder / "check.cpp").write_text(program())
    command = [gxx, "-std=c++17", "-fdump-lang-class", f"-I{ROOT / 'plugins'}", f"-isystem{HOST}", *options]
    done = subprocess.run(
        [*command, "check.cpp", "-o", "check"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (dump,) = folder.glob("*.class")
    classes = dict(re.findall(r"^Class (\S+)\n((?: .*\n)*)", dump.read_text(), re.MULTILINE))
    vtables = dict(re.findall(r"^Vtable for (\S+)\n((?:.+\n)*)", dump.read_text(), re.MULTILINE))
    printed = subprocess.run([str(folder / "check")], capture_output=True, text=True, check=True).stdout
    return printed.splitlines(), classes, vtables


def slots(vtables, name):
    """The functions of a vtable, "0" for those of a destructor."""
    found = next(text for key, text in vtables.items() if re.fullmatch(name, key))
    return ["0" if line.split()[-1] == "0" else "function" for line in found.splitlines()[3:]]


@pytest.fixture(scope="module")
def ours(gxx, tmp_path_factory):
    return seen(gxx, tmp_path_factory.mktemp("api") / "ours")


@pytest.fixture(scope="module")
def official(gxx, headers, tmp_path_factory):
    return seen(gxx, tmp_path_factory.mktemp("api") / "official", OFFICIAL, f"-isystem{headers}")


def test_everything_that_we_declare_is_compared():
    text = (ROOT / "plugins" / "tensorrt" / "api.h").read_text()
    enumerators = {n: re.findall(r"(k\w+) =", body) for n, body in re.findall(r"enum class (\w+).*?\{(.*?)\}", text)}
    assert enumerators == ENUMERATORS
    classes = re.findall(r"^(?:class|struct) (\w+)[^;]*?\{", text, re.MULTILINE)
    assert sorted(name.replace("Dims64", "Dims") for name in classes) == sorted([*CLASSES, *FIELDS])


@pytest.mark.network
def test_values_sizes_and_names(ours, official):
    assert ours[0] == official[0]


@pytest.mark.network
@pytest.mark.parametrize("name", CLASSES)
def test_every_slot_of_an_interface(ours, official, name):
    key = f"nvinfer1::{'' if name == CLASSES[0] else 'v_1_0::'}{name}"
    assert ours[2][key] == official[2][key]
    assert ours[1][key].splitlines()[:2] == official[1][key].splitlines()[:2]  # sizes


@pytest.mark.network
@pytest.mark.parametrize("name", ["Plugin", "Creator"])
def test_our_functions_stand_in_the_same_slots(ours, official, name):
    key = f"rms_deploy::trt::{name}"
    assert "getPluginName" in ours[2][key]
    assert ours[2][key] == official[2][key]


def major_of(headers):
    text = (headers / "NvInferVersion.h").read_text()
    return int(re.search(r"define (?:NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) (\d+)", text)[1])


@pytest.mark.network
@pytest.mark.parametrize("name", ["ILogger", "ILoggerFinder"])
def test_the_loggers_have_one_of_the_two_layouts(ours, official, headers, name):
    layout = "VersionedLayout" if major_of(headers) >= 11 else "PlainLayout"
    theirs = slots(official[2], rf"nvinfer1::(v_1_0::)?{name}")
    assert slots(ours[2], f"rms_deploy::trt::{layout}::{name}") == theirs
    assert theirs in (["function", "0", "0"], ["function", "function", "0", "0", "function"])


@pytest.mark.network
def test_the_sources_compile_with_the_official_headers(gxx, headers, tmp_path):
    sources = map(str, (ROOT / "plugins" / "tensorrt").glob("*.cpp"))
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", '-DRMS_DEPLOY_KERNELS="test"']
    includes = [f"-I{ROOT / 'plugins'}", f"-isystem{HOST}", OFFICIAL, f"-isystem{headers}"]
    command = [gxx, "-std=c++17", "-fsyntax-only", *warnings, *includes, *sources]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


REGISTRY = """
#include <NvInferRuntime.h>
#include "tensorrt/versions.h"
int main() {
  const auto function = &nvinfer1::IPluginRegistry::loadLibrary;
  ptrdiff_t number[2];  // what the Itanium ABI makes of it: 1 + 8 * slot, and an offset of 0
  static_assert(sizeof function == sizeof number);
  __builtin_memcpy(number, &function, sizeof number);
  const size_t slot = static_cast<size_t>(number[0] / 8);
  return slot == rms_deploy::trt::slot_of_load_library(NV_TENSORRT_VERSION) ? 0 : 1;
}
"""


@pytest.mark.network
def test_the_loader_calls_the_function_that_loads(gxx, headers, tmp_path):
    (tmp_path / "check.cpp").write_text(REGISTRY)
    includes = [f"-I{ROOT / 'plugins'}", f"-isystem{HOST}", f"-isystem{headers}"]
    command = [gxx, "-std=c++17", *includes, "check.cpp", "-o", "check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([str(tmp_path / "check")], check=False).returncode == 0
