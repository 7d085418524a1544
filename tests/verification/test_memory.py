"""How much memory is free, as the system says it."""

from __future__ import annotations

import math

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
