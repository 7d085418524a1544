"""The picture in the README: our kernels and the best of each other runtime, as multiples of a plain copy.

    python benchmarks/op/picture.py

reads result.txt and writes docs/kernels.svg.
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
SHAPES = ["16x4096", "128x4096", "2048x4096", "8192x128"]
DTYPES = ["float32", "float16", "bfloat16"]
KERNELS = {"rms-deploy": "ours", "ONNX Runtime": "ort ", "torch": "torch eager", "OpenVINO": "openvino"}
MARKERS = "oDsv"
COLORS = ["#d1495b", "#30638e", "#8d96a3", "#edae49"]
UNFUSED = ("ort decomposed", "ort LayerNormalization")


def copies(lines: list[str], dtype: str, shape: str, kernel: str) -> float | None:
    """Of the fastest kernel of this runtime for a whole RMSNorm; None: it has none."""
    rows = (re.split(r"\s{2,}", line.strip()) for line in lines)
    of_kernel = (row for row in rows if row[:3] == ["norm", dtype, shape] and row[4].startswith(kernel))
    found = [float(row[7]) for row in of_kernel if "partial" not in row[4] and not row[4].startswith(UNFUSED)]
    return min(found, default=None)


def main() -> None:
    """Draw it."""
    lines = [line for line in (HERE / "result.txt").read_text().splitlines() if line.startswith("norm ")]
    mpl.rcParams.update({"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, len(DTYPES), figsize=(9, 3), sharey=True, layout="constrained")
    for axis, dtype in zip(axes, DTYPES, strict=True):
        for index, (name, kernel) in enumerate(KERNELS.items()):
            heights = [copies(lines, dtype, shape, kernel) for shape in SHAPES]
            places = [i + (index - 1.5) * 0.15 for i, height in enumerate(heights) if height is not None]
            axis.plot(places, [h for h in heights if h is not None], MARKERS[index], color=COLORS[index], label=name)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_yscale("log")
        axis.grid(axis="y", color="#dddddd", linewidth=0.5)
        axis.set_xticks(range(len(SHAPES)), [shape.replace("x", "\nx ") for shape in SHAPES])
        axis.set_title(dtype)
    axes[0].set_ylabel("time, in copies of the tensor")
    axes[0].yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(KERNELS), frameon=False)
    figure.savefig(HERE.parents[1] / "docs" / "kernels.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
