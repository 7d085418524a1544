"""What a method takes, and how it reads."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark.method import Method, percentile_name
from rms_deploy.errors import InputError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threads": 0}, "`threads` is 0; use at least 1"),
        ({"rounds": 0}, "`rounds` is 0; use at least 1"),
        ({"concurrency": 0}, "`concurrency` is 0; use at least 1"),
        ({"generate": 0}, "`generate` is 0; use at least 1"),
        ({"launches": 0}, "`launches` is 0; use at least 1"),
        ({"iterations": -1}, "`iterations` is -1; use at least 0"),
        ({"max_time": 0}, "`max_time` is 0; use more than 0 seconds"),
        ({"duration": -1}, "`duration` is -1; use 0 seconds or more"),
        ({"duration": float("nan")}, "`duration` is nan"),
        ({"warmup": float("inf")}, "`warmup` is inf"),
        ({"timeout": 0}, "`timeout` is 0; use more than 0 seconds"),
        ({"percentiles": (120,)}, "percentile 120 is out of range; use 0 to 100"),
    ],
)
def test_a_value_out_of_range_is_one_line(values, message):
    with pytest.raises(InputError, match=message):
        Method(**values).check()


def test_the_method_in_words():
    sentences = list(Method(threads=2, concurrency=3, launches=6, rounds=7, duration=1.5).sentences())
    assert "each candidate in a process of its own, 2 threads, called by 3 clients at a time" in sentences
    assert not any("token" in sentence for sentence in sentences)
    assert any("a run generates 4 tokens after the prompt" in sentence for sentence in Method(generate=4).sentences())
    assert "6 launches, each warmed up until the latency drifts no more, 1 s at most" in sentences
    assert "7 rounds in turns in each launch, another first in each; 1.5 s each in all" in sentences
    assert percentile_name(99.9) == "p99.9"
