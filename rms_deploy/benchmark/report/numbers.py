"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["duration", "ratio"]


def duration(microseconds: float) -> str:
    """With a unit that can be read."""
    if microseconds < 1000:
        return f"{microseconds:.1f} us"
    return f"{microseconds / 1000:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.2f} s"


def ratio(value: float) -> str:
    """Two decimals; more where they would say 1.00 of what is not 1."""
    text = f"{value:.2f}"
    return text if text != "1.00" or value == 1 else f"{value:.4f}"
