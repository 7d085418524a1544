"""A norm in the JSON of every command."""

from __future__ import annotations

import json
from dataclasses import asdict

from rms_deploy.fusion.fuse import fuse

NORM = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"


def test_a_norm_is_json(build):
    (norm,) = fuse(build(NORM)).norms
    data = json.loads(json.dumps(asdict(norm)))
    assert (data["kind"], data["form"], data["axes"], data["rounding"]) == ("RMSNorm", "fused", [-1], None)
    assert (data["max_ulp"], data["unproven"], data["note"]) == (0, "", "")
