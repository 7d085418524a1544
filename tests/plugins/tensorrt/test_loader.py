"""The library for hosts that open a plugin library and expect it to register itself."""

from __future__ import annotations

import os
import subprocess
import sys

import onnx
import pytest

from rms_deploy.ops.contract import OPS
from rms_deploy.runtime.tensorrt_rtx_wheel import link_of

from .networks import node_model

pytestmark = pytest.mark.usefixtures("rtx")

OPENED = """
import ctypes, sys
import tensorrt_rtx as trt
ctypes.CDLL(sys.argv[1])
print([creator.name for creator in trt.get_plugin_registry().all_creators if creator.plugin_namespace == "rms_deploy"])
"""


@pytest.fixture
def loader(library):
    return library.with_name("librms_deploy_tensorrt_loader.so")


def run(program, loader):
    return subprocess.run([sys.executable, "-c", program, str(loader)], capture_output=True, text=True, check=False)


def test_opening_it_registers_the_plugins(loader):
    done = run(OPENED, loader)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == str(list(OPS))
    assert done.stderr == ""


def test_it_says_that_there_is_no_tensorrt(loader):
    done = run("import ctypes, sys; ctypes.CDLL(sys.argv[1])", loader)
    assert done.returncode == 0
    assert done.stderr == f"rms_deploy: {loader} was opened before TensorRT; open TensorRT's library first\n"


def test_it_exports_nothing(loader):
    done = subprocess.run(["nm", "-D", "--defined-only", str(loader)], capture_output=True, text=True, check=True)
    assert done.stdout == ""


@pytest.mark.network
@pytest.mark.slow
def test_polygraphy_builds_with_it(loader, tmp_path):
    """The command of the README. TensorRT's library comes first, because Polygraphy opens the plugins before it."""
    packages = tmp_path / "packages"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(packages),
        "polygraphy==0.53.6",
    ]
    assert subprocess.run(pip, capture_output=True, check=False).returncode == 0
    onnx.save(node_model(shape=(2, 64)), tmp_path / "fused.onnx")
    tensorrt = link_of().with_name("libtensorrt_rtx.so.1")
    command = [packages / "bin" / "polygraphy", "convert", "fused.onnx", "--convert-to", "trt", "-o", "model.engine"]
    done = subprocess.run(
        [sys.executable, *command, "--plugins", tensorrt, loader],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(packages), "POLYGRAPHY_USE_TENSORRT_RTX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "model.engine").stat().st_size > 0
