"""Where a measurement comes from: machine, versions, date and command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from rms_deploy.runtime.machine import Machine, machine, versions

__all__ = ["Provenance"]


@dataclass(frozen=True)
class Provenance:
    """What must be known of a measurement to make it again."""

    machine: Machine
    versions: Mapping[str, str]
    """Of Python and of each package that a latency depends on."""
    date: str
    """UTC, as in ISO 8601."""
    command: str

    @classmethod
    def now(cls) -> Provenance:
        """The provenance of a measurement that begins now. The load must be taken before it, as it adds to the load."""
        return cls(
            machine=machine(),
            versions=versions(),
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        )

    @property
    def packages(self) -> str:
        """The versions in one line."""
        return ", ".join(f"{name} {number}" for name, number in self.versions.items())

    def sentence(self) -> str:
        """Machine and versions, to be printed with the result."""
        here = self.machine
        return f"{here.hardware}, load {here.load} before; {self.packages}"
