"""The C++ tests of the kernels under sanitizers, at every level that this machine has.

Those of torch's library, target rms_deploy_torch_test, take many minutes to compile so: see plugins/torch/README.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .levels import LEVELS, has

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
PROGRAM = "rms_deploy_kernels_test"


def done(command, **environment):
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=1200, check=False, env={**os.environ, **environment}
    )
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"


@pytest.fixture(scope="module", params=["address,undefined", "thread"])
def folder(request, tmp_path_factory):
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    folder = tmp_path_factory.mktemp("sanitized")
    options = ["-DRMS_DEPLOY_TESTS=ON", f"-DRMS_DEPLOY_SANITIZE={request.param}"]
    done(["cmake", "-S", str(ROOT), "-B", str(folder), *options])
    done(["cmake", "--build", str(folder), "--parallel", "2", "--target", PROGRAM])
    return folder / "plugins"


@pytest.mark.parametrize("level", LEVELS)
def test_the_kernels_pass_under_the_sanitizer(folder, level):
    if not has(level):
        pytest.skip(f"this CPU has no {level}")
    done([str(folder / PROGRAM)], RMS_DEPLOY_ISA=level)
