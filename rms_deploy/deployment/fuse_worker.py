"""The process that fuses one model of many. It answers one request, in JSON lines, and ends with its standard input.

    {"do": "fuse", "model": path, "output": path, "options": {keyword arguments of `fuse`}}
        -> {"written": whether the output was, "norms": [...], "fused_before": [...], "near_misses": [...], ...},
           as `FusionResult.to_dict` has it

A model that is refused is answered with {"error": line}.
"""

from __future__ import annotations

import json
import os
import sys

from rms_deploy.errors import RmsDeployError
from rms_deploy.fusion.fuse import fuse

__all__ = ["main"]


def main() -> None:
    """Serve the process on the other end of the pipes until it closes them."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            result = fuse(request["model"], request["output"], **request["options"])
            answer = {"written": result.written, **result.to_dict()}
        except RmsDeployError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)
