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
from candidates import CANDIDATES, FORMS
from matplotlib import pyplot as plt

from rms_deploy.benchmark.latency import ratio_interval

COMPARABLE = 0.01
"""Losses differ by no more than this of LayerNorm's. Set before the first run."""

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


def verdict(low: float, high: float) -> str:
    """Of a norm whose loss, as a ratio to LayerNorm's, lies in low ... high with 95 %."""
    if low >= 1 - COMPARABLE and high <= 1 + COMPARABLE:
        return "comparable"
    if low > 1:
        return "worse"
    return "better" if high < 1 else "open"


def _losses(result: dict[str, Any]) -> Iterator[str]:
    settings = result["settings"]
    yield from ("", "## Loss of character language models", "", _conditions(result), "")
    yield (
        f"Trained on {settings['trained_on']} bytes with Adam, batches of {settings['batch']} x {settings['length']}; "
        f"measured on all of {settings['held_out']} held-out bytes. LayerNorm in bits per byte, mean and range of the "
        "seeds; every other norm as the change of the loss against LayerNorm from the same seed, with Student's 95 % "
        f"interval over the seeds. Comparable: the interval lies within {100 * COMPARABLE:.0f} % of LayerNorm's loss. "
        "Worse, better: it does not, and leaves out 0. Open: neither."
    )
    yield from ("", "| model | elements of pRMSNorm | steps | seeds | layernorm | rmsnorm | prmsnorm:0.0625 | none |")
    yield "|---|---|---|---|---|---|---|---|"
    for name, model in result["models"].items():
        losses = {norm: [run["loss"] for run in runs] for norm, runs in model["norms"].items()}
        base = losses.pop("layernorm")
        bits = [value / math.log(2) for value in (statistics.fmean(base), min(base), max(base))]
        cells = [_against(values, base) for values in losses.values()]
        elements = ", ".join(map(str, model["elements"]))
        middle = f"{bits[0]:.3f} ({bits[1]:.3f} ... {bits[2]:.3f})"
        yield f"| {name} | {elements} | {model['steps']} | {len(base)} | {middle} | {' | '.join(cells)} |"


def _against(losses: list[float], base: list[float]) -> str:
    ratios = [loss / reference for loss, reference in zip(losses, base, strict=True)]
    low, high = ratio_interval(ratios) or (0.0, math.inf)
    return f"{_change([statistics.geometric_mean(ratios), low, high])}, {verdict(low, high)}"


def draw(result: dict[str, Any], output: Path) -> None:
    """Mean over the seeds, and the range of the seeds as a band."""
    mpl.rcParams["svg.hashsalt"] = "rms-deploy"  # the same picture from the same numbers
    figure, grid = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for axis, (name, model) in zip(grid.flat, result["models"].items(), strict=True):
        for (norm, trained), style in zip(model["norms"].items(), ("-", "--", "-.", ":"), strict=True):
            runs = [[loss / math.log(2) for loss in run["curve"]] for run in trained]
            columns = list(zip(*runs, strict=True))
            steps = [result["settings"]["every"] * point for point in range(len(columns))]
            (line,) = axis.plot(steps, [statistics.mean(column) for column in columns], style, label=norm)
            axis.fill_between(
                steps, list(map(min, columns)), list(map(max, columns)), alpha=0.2, color=line.get_color()
            )
        axis.set(title=name, xlabel="training step", ylabel="held-out loss, bits per byte", ylim=(1.8, 5))
        axis.legend()
    figure.savefig(output, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    (folder / "result.md").write_text("\n".join(lines(folder)) + "\n")
    if (folder / "curves.json").exists():
        draw(json.loads((folder / "curves.json").read_text()), folder / "curves.svg")


if __name__ == "__main__":
    main()
