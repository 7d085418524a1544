"""How much memory is free, as the system says it."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.verification import memory


def put(folder, monkeypatch, meminfo, limit, used):
    for name, text in (("meminfo", meminfo), ("memory.max", limit), ("memory.current", used)):
        if text is not None:
            (folder / name).write_text(text)
    monkeypatch.setattr(memory, "_MEMINFO", folder / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", folder)


@pytest.mark.parametrize(
    ("meminfo", "limit", "used", "free"),
    [
        ("MemTotal: 9 kB\nMemAvailable:  4 kB\n", None, None, 4096),
        ("MemAvailable: 4 kB\n", "max\n", "100\n", 4096),
        ("MemAvailable: 4 kB\n", "3000\n", "1000\n", 2000),
        ("MemAvailable: 4 kB\n", "3000\n", "4000\n", 0),
        (None, None, None, math.inf),
    ],
)
def test_free_memory_is_that_of_the_machine_or_of_the_container(tmp_path, monkeypatch, meminfo, limit, used, free):
    put(tmp_path, monkeypatch, meminfo, limit, used)
    assert memory.free_memory() == free


def test_bytes_for_people():
    assert memory.gib(3 * 2**29) == "1.5 GiB"


def test_what_onnx_runtime_takes_for_weights():
    """Half types in float32; what lies in no data file is there twice more."""
    text = """<ir_version: 10, opset_import: ["" : 18]> g (float16[2] x) => (float16[2] y)
        <float16[2,3] w = {0, 0, 0, 0, 0, 0}, double[2] d = {0, 0}, int64[2] i = {0, 0}> { y = Neg(x) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    model.graph.initializers["i"].const_value = ir.ExternalTensor(
        "data", 0, 16, ir.DataType.INT64, shape=ir.Shape([2]), name="i"
    )
    assert memory.deployed_bytes(model) == (6 * 4 + 2 * 12) + (2 * 8 + 2 * 16) + 2 * 8


@pytest.mark.skipif(sys.platform != "linux", reason="the system says it in /proc")
def test_the_pages_of_a_file_are_returned(tmp_path):
    numbers = np.arange(2**20, dtype=np.float32)
    (tmp_path / "data").write_bytes(numbers.tobytes())
    tensor = ir.ExternalTensor(
        "data", 0, numbers.nbytes, ir.DataType.FLOAT, shape=ir.Shape([2**20]), name="w", base_dir=tmp_path
    )

    def pages():
        text = Path("/proc/self/smaps").read_text().partition(str(tmp_path / "data"))[2]
        return int(text.partition("Rss:")[2].split()[0])

    memory.return_pages([tensor, ir.tensor([1.0])])  # not read yet
    assert tensor.numpy().sum() > 0
    assert pages() == numbers.nbytes // 1024
    memory.return_pages([tensor])
    assert pages() == 0
    np.testing.assert_array_equal(tensor.numpy(), numbers)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is what keeps it")
def test_what_was_freed_is_returned(monkeypatch):
    calls = []
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=calls.append))
    memory.return_freed()
    assert calls == [0]
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace())
    memory.return_freed()
