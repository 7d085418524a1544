"""Search for spellings of RMSNorm that `fuse` gets wrong: other random graphs each time.

    python benchmarks/fusion/search.py --examples 5000 --seed 1

Faults are counted by kind, with the smallest graph of each. The exit code is 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path

import onnx.printer
from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "fusion"))

from cases.generator import Generated, models
from cases.proof import fault_of


def search(examples: int, start: int) -> dict[str, tuple[int, Generated]]:
    """The faults of so many random models: kind -> number of them and the smallest model."""
    faults: dict[str, tuple[int, Generated]] = {}
    seen = 0
    began = time.monotonic()

    @seed(start)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(models())
    def look(generated: Generated) -> None:
        nonlocal seen
        seen += 1
        if seen % 100 == 0:
            rate = seen / (time.monotonic() - began)
            print(f"\r{seen} of {examples}, {rate:.0f} a second, {len(faults)} faults", end="", file=sys.stderr)
        fault = fault_of(generated)
        if not fault:
            return
        kind = re.sub(r"\w*\d[\w.+-]*", "#", fault)
        count, smallest = faults.get(kind, (0, generated))
        smallest = min(smallest, generated, key=lambda one: len(one.model.graph.node))
        faults[kind] = (count + 1, smallest)

    look()
    print(file=sys.stderr)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    faults = search(options.examples, options.seed)
    if options.json:
        kinds = [
            {"fault": kind, "count": count, "model": onnx.printer.to_text(smallest.model)}
            for kind, (count, smallest) in faults.items()
        ]
        print(json.dumps({"examples": options.examples, "seed": options.seed, "faults": kinds}, indent=1))
        return bool(faults)
    for kind, (count, smallest) in sorted(faults.items(), key=lambda item: -item[1][0]):
        print(f"{count} x {kind}; parts: {smallest.parts}\n{onnx.printer.to_text(smallest.model)}\n")
    print(f"{options.examples} models, seed {options.seed}: {sum(count for count, _ in faults.values())} with a fault")
    return bool(faults)


if __name__ == "__main__":
    raise SystemExit(main())
