"""What a user without torch is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

USES = {
    "rms_deploy.nn": "import rms_deploy.nn",
    "rms_deploy.export": "import rms_deploy; rms_deploy.export('llama-tiny')",
    "rms_deploy.exporter.swap": "from rms_deploy.exporter.swap import swap",
    "rms_deploy.ops.torch_ops": "import rms_deploy.ops.torch_ops",
}


def without(package: str, use: str) -> subprocess.CompletedProcess[str]:
    code = f"""
import sys
sys.modules[{package!r}] = None
from rms_deploy.errors import MissingDependencyError
try:
    {use}
except MissingDependencyError as error:
    print(error)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_missing_torch_is_one_line(use) -> None:
    assert without("torch", use).stdout == "torch is not installed; run: pip install 'torch<2.14' onnxscript\n"


def test_a_missing_onnxscript_is_one_line() -> None:
    expected = "onnxscript is not installed; run: pip install 'torch<2.14' onnxscript\n"
    assert without("onnxscript", USES["rms_deploy.export"]).stdout == expected


def test_the_module_of_norms_needs_torch_alone() -> None:
    assert without("onnxscript", USES["rms_deploy.nn"]).stdout == ""
