"""The instruction-set levels of the CPU kernels, lowest first, and which of them this machine has."""

from __future__ import annotations

import platform
from pathlib import Path

X86 = platform.machine() in ("x86_64", "AMD64")
LEVELS = ["x86-64-v2", "avx2", "avx512"] if X86 else ["portable"]


def has(level):
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split("flags", 2)[1].splitlines()[0].split() if X86 and info.exists() else []
    needed = {"avx2": ["avx2", "fma"], "avx512": ["avx512f", "avx512bw", "avx512dq", "avx512vl"]}.get(level, [])
    return all(flag in flags for flag in needed)
