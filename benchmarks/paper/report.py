"""The measurements as tables and a picture.

    python benchmarks/paper/report.py benchmarks/paper/results

Reads latency.json, training.json and curves.json of the folder, writes result.md and curves.svg there.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from candidates import CANDIDATES, FORMS, NORMS
from matplotlib import pyplot as plt

_AS = {"decomposed": "decomposed", "one op": "as one op"}
_TITLES = {
    "latency": "Latency of one run, ONNX Runtime CPU",
    "training": "Time of a training step, torch CPU: forward and backward",
}


def lines(folder: Path) -> Iterator[str]:
    """Markdown."""
    yield "# LayerNorm, RMSNorm and pRMSNorm: time and loss"
    for kind, title in _TITLES.items():
        path = folder / f"{kind}.json"
        if path.exists():
            yield from _times(title, json.loads(path.read_text()))
    path = folder / "curves.json"
    if path.exists():
        yield from _losses(json.loads(path.read_text()))


def _conditions(result: dict[str, Any]) -> str:
    values = result["conditions"]
    versions = ", ".join(f"{name} {values[name]}" for name in ("torch", "onnxruntime", "rms-deploy", "python"))
    return f"{values['cpu']}, {values['threads']} thread, {versions}; {values['date']}; `{values['command']}`"


def _times(title: str, result: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"## {title}", "", _conditions(result), "")
    yield (
        "LayerNorm in milliseconds; every other norm as the change of time against LayerNorm in the same form "
        "(negative is faster), with the interval that holds the median with 95 %."
    )
    for form in FORMS:
        norms = [c.norm for c in CANDIDATES if c.form == form and c.norm != "layernorm"]
        yield from ("", f"### Norms {_AS[form]}", "")
        yield f"| model | shape | layernorm, ms | {' | '.join(norms)} |"
        yield "|---|---|---|" + "---|" * len(norms)
        for model, measured in result["models"].items():
            base = measured[f"layernorm, {form}"]["milliseconds"][0]
            cells = [_change(measured[norm if norm == "none" else f"{norm}, {form}"]["of_layernorm"]) for norm in norms]
            yield f"| {model} | {_shape(result['shapes'][model])} | {base:.2f} | {' | '.join(cells)} |"
    yield from ("", "### One op against decomposed", "", "| model | layernorm | rmsnorm | prmsnorm:0.25 |")
    yield "|---|---|---|---|"
    for model, measured in result["models"].items():
        cells = []
        for norm in ("layernorm", "rmsnorm", "prmsnorm:0.25"):
            before, after = (measured[f"{norm}, {form}"]["milliseconds"][0] for form in FORMS)
            cells.append(f"{before / after:.2f} x")
        yield f"| {model} | {' | '.join(cells)} |"


def _shape(shape: Any) -> str:
    shapes = shape.values() if isinstance(shape, dict) else [shape]
    return ", ".join("x".join(map(str, sizes)) for sizes in shapes)


def _change(ratio: list[float]) -> str:
    middle, low, high = (100 * (value - 1) for value in ratio)
    return f"{middle:+.1f} % ({low:+.1f} ... {high:+.1f})"


def _losses(result: dict[str, Any]) -> Iterator[str]:
    settings = result["settings"]
    yield from ("", "## Loss of a character language model", "", _conditions(result), "")
    yield (
        f"Bits per byte on held-out text, of {settings['bytes']} bytes in all; batches of {settings['batch']} x "
        f"{settings['length']}, Adam, rate {settings['rate']}. One number a seed."
    )
    yield from ("", "| model | steps | " + " | ".join(n for n in NORMS if n in result["curves"]["llama-tiny"]) + " |")
    yield "|---|---|" + "---|" * len(result["curves"]["llama-tiny"])
    for model, norms in result["curves"].items():
        order = [norm for norm in NORMS if norm in norms]
        cells = [", ".join(f"{run['loss'][-1][1] / math.log(2):.3f}" for run in norms[norm]) for norm in order]
        yield f"| {model} | {norms[order[0]][0]['loss'][-1][0]} | {' | '.join(cells)} |"


def draw(curves: dict[str, Any], output: Path) -> None:
    """Mean over the seeds, and the range of the seeds as a band."""
    mpl.rcParams["svg.hashsalt"] = "rms-deploy"  # the same picture from the same numbers
    figure, axes = plt.subplots(1, len(curves), figsize=(10, 4), layout="constrained")
    for axis, (model, norms) in zip(axes, curves.items(), strict=True):
        for norm, style in zip(norms, ("-", "--", "-.", ":"), strict=True):
            runs = [[loss / math.log(2) for _, loss in run["loss"]] for run in norms[norm]]
            steps = [step for step, _ in norms[norm][0]["loss"]]
            columns = list(zip(*runs, strict=True))
            (line,) = axis.plot(steps, [statistics.mean(column) for column in columns], style, label=norm)
            axis.fill_between(
                steps, list(map(min, columns)), list(map(max, columns)), alpha=0.2, color=line.get_color()
            )
        axis.set(title=model, xlabel="training step", ylabel="held-out loss, bits per byte", ylim=(2.2, 6))
        axis.legend()
    figure.savefig(output, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    (folder / "result.md").write_text("\n".join(lines(folder)) + "\n")
    if (folder / "curves.json").exists():
        draw(json.loads((folder / "curves.json").read_text())["curves"], folder / "curves.svg")


if __name__ == "__main__":
    main()
