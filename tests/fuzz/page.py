"""docs/reliability.md, from the counts."""

from __future__ import annotations

from pathlib import Path

from .report import KindReport, Report

__all__ = ["write_page"]

_KINDS = {
    "valid": (
        "Valid graphs",
        "float32, float16, bfloat16 and float64, opsets 7 to 25, IR 3 to 13: norms and what only looks like one in "
        "many spellings, native norm ops, ours with and without bodies, residual sums, If, Loop, Scan, local "
        "functions, external data, sparse initialisers, annotations, sizes of zero, nodes without names.",
    ),
    "bytes": ("Damaged bytes", "One to four changes of a valid file: bits, lengths, parts cut, doubled or spliced."),
    "structure": (
        "Damaged structure",
        "One to three changes of a valid model: inputs, outputs, nodes, attributes, types, sizes, names, opsets, "
        "cycles, functions that call themselves, tensors whose data lies elsewhere.",
    ),
}
_HEAD = """# Reliability

What a file contains must not make rms-deploy read what it must not, give other numbers, lose content, hang, or end in
a traceback. `tests/fuzz` tries that with random models, each from one integer:

- A valid model is fused for a random target. The result must pass onnx's checker where the original does, load in ONNX
  Runtime where the original does, with our library and without it, and compute the same as the original does
  unoptimised (in onnx's evaluator where ONNX Runtime has no kernel). Equal is: within 8 eps of the largest element of
  the row, or 16 times what noise of one eps after every operator of the original moves, or 64 eps where it has bodies
  or operators that the evaluator has not.
  Fusing again gives the same bytes, unfusing the same numbers, and a model in memory stays what it was.
- A damaged one goes through `inspect`, `unfuse` and `fuse`, now and then through `verify` and `doctor`. Either it is
  refused in one line, or what is written is held to the same as above. 10 s and 1 GiB are the limits, and nothing of a
  file outside the model's folder may be in the result.

Each trial runs in a process of its own kind that may crash. The same counts again, and more of them:

```text
python tests/fuzz/run.py --count 20000 --report fuzz.json --keep failed --write-docs docs/reliability.md
```

`--kind`, `--seed` and `--workers` choose what and how; a run goes on where the last one with this report ended, and
`--again` tries the seeds that failed.
"""

_LEFT = """## What is left

| seed | why |
|---|---|
| valid 2405 | Two norms of one sum, `--target standard`: the second run merges the Add into the other norm. |
| valid 9960, 19712 | `--target tensorrt-plugin`: the second run finds a norm that the first one left. |
| valid 16943 | x - norm(x): the original is 2.0e-5 off from float64, ours 9.9e-6. |
| valid 18244 | A float16 overflows; ONNX Runtime itself gives NaN or a number, by the outputs that it is asked for. |
| valid 12839 | `fuse` ended with exit code 255 on a loaded machine, once; nine other runs of it did not. |
| bytes 50805 | The shape that the file declares is wrong, which no operator had shown before. |
| bytes 82978 | The square of x overflows in the original; our kernel scales it first, and gives the norm. |"""


def write_page(report: Report, path: Path) -> None:
    """The page of this report."""
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    lines = [_HEAD, f"Tried with {versions}.", "", "| | tried | failed | of these mended |", "|---|--:|--:|--:|"]
    for kind, part in report.kinds.items():
        failed = [failure["count"] for failure in part.failures.values()]
        mended = [failure["count"] for failure in part.failures.values() if failure["mended"]]
        lines.append(f"| {_KINDS[kind][0]} | {part.tried:,} | {sum(failed):,} | {sum(mended):,} |")
    for kind, part in report.kinds.items():
        lines += ["", *_section(kind, part)]
    path.write_text("\n".join([*lines, "", _LEFT]) + "\n")


def _section(kind: str, part: KindReport) -> list[str]:
    title, what = _KINDS[kind]
    lines = [f"## {title}", "", what, "", "| what came of it | |", "|---|--:|"]
    lines += [f"| {_cell(outcome)} | {number:,} |" for outcome, number in part.outcomes.most_common()]
    if part.failures:
        lines += ["", "| what failed | number | a seed | mended |", "|---|--:|--:|---|"]
    for name, failure in sorted(part.failures.items(), key=lambda item: -item[1]["count"]):
        mended = "yes" if failure["mended"] else "no"
        lines.append(f"| {_cell(name)} | {failure['count']:,} | {failure['seeds'][0]} | {mended} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "in").replace("<", "&lt;")
