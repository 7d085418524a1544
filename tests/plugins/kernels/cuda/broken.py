"""The kernels' sources with one line broken, which the tests have to see."""

from __future__ import annotations

from pathlib import Path

from .compiling import PLUGINS

BROKEN = {
    "a barrier before the sums of the warps are read": (
        "rows.cuh",
        "    __syncthreads();\n    const int lane",
        "    const int lane",
    ),
    "a barrier in the sum over columns": ("columns.cuh", "half /= 2) {\n    __syncthreads();", "half /= 2) {"),
    "one shuffle": ("rows.cuh", "offset > 0; offset /= 2", "offset > 1; offset /= 2"),
    "the last pack of a row": ("rows.cuh", "return kAligned ? begin < n_", "return kAligned ? begin + kWidth<T> < n_"),
    "the end of a row": ("rows.cuh", "return i >= 0 && i < n_;", "return i >= 0 && i <= n_;"),
    "the rounded reciprocal": (
        "statistic.cuh",
        "return {1.0F, to_float(from_float<T>(divisor.power * divisor.factor))};",
        "return divisor;",
    ),
    "the scale of a row": ("statistic.cuh", "scale_offset(p, outer) * bytes", "scale_offset(p, outer + 1) * bytes"),
    "the rounding before a gate": ("gated_rows.cuh", "round_to<T>(values, this->p_.round_before_scale);", ""),
    "the gate of what is still held": (
        "gated_rows.cuh",
        "row.load(chunk, chunk == last, held);",
        "row.load(chunk, false, held);",
    ),
    "the gate in the second sum": (
        "statistic.cuh",
        "value *= gate_of(p.gate, to_float(static_cast<const T*>(p.operand)[i]));",
        "",
    ),
    "the rounding before a shift": ("general_rows.cuh", "round_to<T>(values, this->p_.round_before_scale);", ""),
    "the rounding of a sum": ("general_rows.cuh", "round_to<T>(values[i], rounds_sum());", ""),
    "the rounding before a quotient": ("general_rows.cuh", "round_to<T>(values, true);", ""),
    "the row of a shift": ("general_rows.cuh", "anew(row_) : row_", "0 : 0"),
    "the residual's packs": ("general_rows.cuh", "load_pack(from + 4)", "load_pack(from)"),
    "the sum in the second sum": (
        "statistic.cuh",
        "value = kGeneral && p.normalizes_float32_sum ? value : to_float(from_float<T>(value));",
        "",
    ),
    "a tie of float8": ("quantized.h", "(finite >> 20 & 1U)", "1U"),
    "a small float8": ("quantized.h", "magnitude < 0x3c800000U", "magnitude < 0x3b800000U"),
    "the largest float8": ("quantized.h", "most = 0x43e00000U", "most = 0x43d00000U"),
    "the least int8": ("quantized.h", "-128.0F", "-127.0F"),
    "the second sum": ("rows.cuh", "divisor = holds ?", "divisor = divisor.power > 0.0F ?"),
}
"""What is broken: the file, the line, and what it becomes."""


def write_broken(folder: Path, what: str) -> None:
    """The sources that the kernels are compiled from; "nothing" is broken in the whole ones."""
    name, old, new = BROKEN.get(what, ("", "", ""))
    for path in (
        *PLUGINS.glob("*.h"),
        *PLUGINS.glob("kernels/*.h"),
        *PLUGINS.glob("kernels/cuda/*.*"),
        *PLUGINS.glob("torch/*.*"),
    ):
        text = path.read_text()
        if path.name == name:
            assert text.count(old) == 1
            text = text.replace(old, new)
        copy = folder / path.relative_to(PLUGINS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
