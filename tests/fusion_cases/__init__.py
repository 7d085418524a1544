"""Graphs that are RMSNorm, and graphs that look like it: one table for the tests and for the comparison with peers."""

from __future__ import annotations

from .case import Case
from .casts import CASTS
from .decoys import DECOYS
from .pieces import PIECES

__all__ = ["CASES", "Case"]

CASES: list[Case] = [*PIECES, *CASTS, *DECOYS]
