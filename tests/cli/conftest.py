"""Room for every column of a table; test_width.py takes it away."""

from __future__ import annotations

import pytest

from rms_deploy.cli.console import stdout


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdout, "width", 300)
