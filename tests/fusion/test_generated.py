"""Random spellings of the norm in random graphs: what is a norm is fused, what is none is not, and no number changes.

A longer search, of other examples each time: `python benchmarks/fusion/search.py`.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, given, settings

from .cases.generator import models
from .cases.proof import prove

SETTINGS = settings(
    max_examples=250,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@SETTINGS
@given(models())
def test_random_spellings(generated):
    prove(generated)
