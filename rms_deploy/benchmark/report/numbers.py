"""Numbers as people read them."""

from __future__ import annotations

from rms_deploy.benchmark.latency import Speedup

__all__ = ["compared", "duration", "ratio"]


def duration(microseconds: float) -> str:
    """A time in the unit that keeps the number short: us, ms or s."""
    if microseconds < 1000:
        return f"{microseconds:.1f} us"
    return f"{microseconds / 1000:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.2f} s"


def ratio(value: float) -> str:
    """A ratio with two decimals; with four where two would show 1.00 for another number."""
    text = f"{value:.2f}"
    return text if text != "1.00" or value == 1 else f"{value:.4f}"


def compared(speedup: Speedup | None) -> tuple[str, str, str]:
    """Times faster, the 95 % interval and the verdict; nothing where nothing was compared."""
    if speedup is None:
        return "", "", ""
    interval = " ... ".join(ratio(end) for end in (speedup.low, speedup.high) if end is not None)
    return f"{ratio(speedup.value)}x", interval, speedup.verdict
