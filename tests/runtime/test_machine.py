"""A measurement says where it was made."""

from __future__ import annotations

import platform

from rms_deploy.runtime.machine import machine, versions


def test_names_the_machine():
    here = machine()
    assert here.cpu
    assert 1 <= here.usable_cores <= here.cores
    assert here.load >= 0
    assert here.hardware == ", ".join((here.cpu, f"{here.usable_cores} of {here.cores} cores", *here.gpus))


def test_names_what_is_installed_and_nothing_else():
    found = versions()
    assert found["python"] == platform.python_version()
    assert {"rms-deploy", "onnx", "numpy"} <= found.keys()
    assert len(found.keys() & {"onnxruntime", "onnxruntime-gpu"}) == 1
