"""The plugin driven as TensorRT drives it, by a small C++ host, with kernels that only write down what they are given.

Under the address and undefined-behaviour sanitizers, but for the check of vtables: the loggers are objects of another
library, whose types are not ours.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .networks import plugin_sources

pytestmark = pytest.mark.slow

HOST = Path(__file__).parent / "host"
PLUGINS = Path(__file__).parents[3] / "plugins"
OPTIONS = ["-std=c++17", "-g", "-Wall", "-Wextra", "-Werror", f"-I{PLUGINS}", f"-I{HOST}"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all"]
FAKES = {
    "tensorrt-10": ("PlainLayout", 0, 101401),
    "tensorrt-11": ("VersionedLayout", 1, 110100),
    "tensorrt-rtx-1.4": ("PlainLayout", 0, 10400),
    "tensorrt-rtx-1.7": ("VersionedLayout", 1, 10701),
}
"""Layout of the loggers, and what getInferLibVersion says."""


def compiled(gxx, output, *arguments):
    command = [gxx, *OPTIONS, *arguments, "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def host(gxx, tmp_path_factory):
    output = tmp_path_factory.mktemp("host") / "host"
    return compiled(
        gxx,
        output,
        *SANITIZE,
        '-DRMS_DEPLOY_KERNELS="test"',
        str(HOST / "host.cpp"),
        *map(str, plugin_sources()),
        "-ldl",
    )


@pytest.fixture(scope="module")
def fakes(gxx, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fakes")
    return [
        compiled(
            gxx,
            folder / f"{name}.so",
            *("-shared", "-fPIC", str(HOST / "fake_tensorrt.cpp")),
            *(f"-DFAKE_LAYOUT={layout}", f"-DFAKE_VERSIONED={versioned}", f"-DFAKE_VERSION={version}"),
        )
        for name, (layout, versioned, version) in FAKES.items()
    ]


def test_the_plugin_keeps_its_side_of_the_interface(host, fakes):
    done = subprocess.run([str(host), *map(str, fakes)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
