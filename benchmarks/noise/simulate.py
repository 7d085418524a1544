"""How often the rule of `bench` names a winner, with launches that are drawn at random.

    python benchmarks/noise/simulate.py

The speed of a launch is normal in its logarithm, with a given standard deviation. Of each setting 600 benchmarks are
drawn, in which the second candidate is as fast as the first, or 3 % slower.
"""

from __future__ import annotations

import numpy as np

from rms_deploy.benchmark.latency import Latency, Speedup

BENCHMARKS = 600


def named(generator: np.random.Generator, launches: int, deviation: float, slower: float) -> float:
    """The share of benchmarks that name a winner."""
    drawn = np.exp(deviation * generator.standard_normal((BENCHMARKS, 3, launches)))
    found = 0
    for speeds in drawn:
        first, again, other = (Latency.of([[[value]] for value in each]) for each in speeds * [[1], [1], [1 + slower]])
        noise = Speedup.of(first, again).spread
        found += Speedup.of(first, other, noise=noise).verdict in ("faster", "slower")
    return found / BENCHMARKS


def main() -> None:
    generator = np.random.default_rng(0)
    print("launches  deviation  of equal ones  of one 3 % slower")
    for launches in (3, 5, 10):
        for deviation in (0.005, 0.01, 0.02):
            equal, slower = (named(generator, launches, deviation, gain) for gain in (0.0, 0.03))
            print(f"{launches:8}  {100 * deviation:7.1f} %  {100 * equal:11.1f} %  {100 * slower:15.0f} %")


if __name__ == "__main__":
    main()
