"""What is known of a measurement."""

from __future__ import annotations

import sys
from datetime import datetime

from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.runtime.machine import Machine


def test_the_command_is_as_it_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/rms-deploy", "bench", "my model.onnx"])
    found = Provenance.now()
    assert found.command == "rms-deploy bench 'my model.onnx'"
    assert datetime.fromisoformat(found.date).tzinfo is not None
    assert {"python", "onnxruntime", "rms-deploy"} <= found.versions.keys()


def test_the_sentence():
    made = Provenance(Machine("a processor", 4, 2, "a system", 0.1), {"python": "3.11", "onnx": "1.23"}, "", "")
    assert made.sentence() == "a processor, 2 of 4 cores, load 0.1 before; python 3.11, onnx 1.23"
