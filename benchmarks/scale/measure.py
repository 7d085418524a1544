"""Seconds, memory and disk of export, fuse and verify for decoders of three sizes, as docs/scale.md shows them.

python benchmarks/scale/measure.py --output benchmarks/scale/result.json [--sizes 114M,1.1B,3.2B] [--folder WORK]
    [--commands export,fuse,verify]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMANDS = {
    "export": ["export", "model", "-o", "decoder.onnx", "--with-past", "--norm", "decomposed"],
    "fuse": ["fuse", "decoder.onnx", "-o", "fused.onnx", "--require-all"],
    "verify": ["verify", "decoder.onnx", "fused.onnx"],
}


def measured(command: list[str], folder: Path) -> dict[str, Any]:
    """One command: its seconds, the peak memory of its largest process, and what it printed last."""
    start = time.perf_counter()
    load = os.getloadavg()[0]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - start,
        "peak_bytes": usage.ru_maxrss * 1024,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "load": load,
        "says": lines[-1] if lines else "",
    }


def scale(size: str, work: Path, commands: list[str]) -> dict[str, Any]:
    """A folder of this size through all commands; nothing of it is kept."""
    result: dict[str, Any] = {}
    script = Path(__file__).with_name("folder.py")
    made = measured([sys.executable, str(script), size, "model"], work)
    result["parameters"] = int(made["says"])
    for name in commands:
        result[name] = measured([sys.executable, "-m", "rms_deploy", *COMMANDS[name]], work)
        print(size, name, result[name], file=sys.stderr, flush=True)
    result["disk_bytes"] = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    return result


def main() -> None:
    """Measure each size, and write what was found after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sizes", default="114M,1.1B,3.2B")
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--folder", type=Path, help="where to work; default: the folder for temporary files")
    options = parser.parse_args()
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    for size in options.sizes.split(","):
        work = Path(tempfile.mkdtemp(prefix="rms-deploy-scale-", dir=options.folder))
        try:
            results[size] = scale(size, work, options.commands.split(","))
        finally:
            shutil.rmtree(work)
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
