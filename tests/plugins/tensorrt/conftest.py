"""The plugin library in the registry of TensorRT-RTX, which needs no GPU to parse and to build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rms_deploy.errors import InstallationError
from rms_deploy.libraries import tensorrt_library
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.runtime.tensorrt_rtx_wheel import mend

PACKAGE, FOLDER = "kernel-lens==2.0.1", "kernel_lens/include/tensorrt/"
"""On the package index, with the headers of TensorRT 10.14 in it; its dependencies are not needed."""


@pytest.fixture(scope="session")
def library():
    try:
        return tensorrt_library()
    except InstallationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def rtx():
    """TensorRT-RTX, with the link that its wheel lacks."""
    mend()
    return pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="session")
def trt(rtx, library):
    """TensorRT-RTX, with our library in the registry of this process."""
    registry = rtx.get_plugin_registry()
    if not any(creator.plugin_namespace == DOMAIN for creator in registry.all_creators):
        assert registry.load_library(str(library)) is not None
    return rtx


@pytest.fixture(scope="session")
def gxx():
    """g++, whose record of vtables is compared."""
    return shutil.which("g++") or pytest.skip("no g++")


@pytest.fixture(scope="session")
def headers(tmp_path_factory):
    """The folder of TensorRT's official headers; a test that uses it has the marker network."""
    if folder := os.environ.get("TENSORRT_INCLUDE_DIR"):
        return Path(folder)
    folder = tmp_path_factory.mktemp("headers")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(FOLDER)])
    return folder / FOLDER
