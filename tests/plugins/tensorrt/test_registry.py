"""What TensorRT finds in the library: its creators, their fields, and what the library needs and exports."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import numpy as np
import pytest

from rms_deploy.ops.contract import DOMAIN, OPS, PLUGIN_VERSION

TYPES = {"int": "INT64", "ints": "INT64", "float": "FLOAT32"}


@pytest.mark.parametrize("op", OPS)
def test_the_creator_takes_the_attributes_of_the_contract(trt, op):
    creator = trt.get_plugin_registry().get_creator(op, PLUGIN_VERSION, DOMAIN)
    assert creator is not None
    assert (creator.name, creator.plugin_version, creator.plugin_namespace) == (op, PLUGIN_VERSION, DOMAIN)
    found = [(field.name, field.type.name) for field in creator.field_names]
    assert found == [(attribute.name, TYPES[attribute.kind]) for attribute in OPS[op].attributes]


@pytest.mark.parametrize("dtype", ["INT32", "INT64"])
def test_a_plugin_is_made_of_both_kinds_of_int(trt, dtype):
    def field(name, *values):
        return trt.PluginField(name, np.array(values, dtype.lower()), getattr(trt.PluginFieldType, dtype))

    creator = trt.get_plugin_registry().get_creator("PartialRMSNorm", PLUGIN_VERSION, DOMAIN)
    fields = trt.PluginFieldCollection([field("axes", -2, -1), field("scale_type", 1), field("partial_size", 3)])
    plugin = creator.create_plugin("norm", fields, trt.TensorRTPhase.BUILD)
    core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    assert (core.plugin_name, core.plugin_version, core.plugin_namespace) == ("PartialRMSNorm", PLUGIN_VERSION, DOMAIN)


def test_it_exports_what_tensorrt_looks_for_and_nothing_else(library):
    done = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["getCreators", "setLoggerFinder"]


def test_it_needs_no_tensorrt_no_cuda_and_no_cpp_runtime(library):
    done = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True)
    needed = {line.split("[")[1].split(".so")[0] for line in done.stdout.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libc", "libm", "libdl", "librt", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}


def test_it_gives_its_creators_to_whoever_asks(library):
    count = ctypes.c_int32(0)
    function = ctypes.CDLL(str(library)).getCreators
    function.restype = ctypes.c_void_p
    assert function(ctypes.byref(count))
    assert count.value == len(OPS)


@pytest.mark.usefixtures("rtx")
def test_it_can_be_unloaded_and_loaded_again(library):
    program = """
import sys, tensorrt_rtx as trt
registry = trt.get_plugin_registry()
for _ in range(3):
    handle = registry.load_library(sys.argv[1])
    assert registry.get_creator("RMSNorm", "1", "rms_deploy") is not None
    registry.deregister_library(handle)
    assert registry.get_creator("RMSNorm", "1", "rms_deploy") is None
"""
    done = subprocess.run([sys.executable, "-c", program, str(library)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
