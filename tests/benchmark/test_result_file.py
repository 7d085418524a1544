"""A result is the same when it is read back; any other file is one line."""

from __future__ import annotations

import json

import pytest

from rms_deploy.benchmark.result_file import from_dict, read_benchmark
from rms_deploy.errors import InputError

from .made_result import result


def test_a_result_is_the_same_when_it_is_read_back(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(result().to_dict(), allow_nan=False))
    again = read_benchmark(file)
    assert again.points[0].candidates == result().points[0].candidates
    assert json.loads(json.dumps(again.to_dict())) == json.loads(file.read_text())
    assert json.loads(file.read_text())["points"][0]["candidates"][1]["speedup"]["verdict"] == "faster"
    assert from_dict(result().to_dict()) == result()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a saved result of `rms_deploy.bench`; give one"),
        ('{"points": []}', "is not a saved result of `rms_deploy.bench`; give one"),
        ('{"format": 3, "timings": []}', "is not a saved result of `rms_deploy.bench`; give one"),
        (
            '{"format": "rms-deploy bench 1", "points": []}',
            "has format 'rms-deploy bench 1', this version reads 3; run",
        ),
        ('{"format": 4, "points": []}', "has format 4, this version reads 3; run the benchmark again"),
        ('{"format": 3, "points": [{}]}', r"is damaged \(KeyError: 'candidates'\); run the benchmark again"),
        ('{"format": 3, "points": []}', r"is damaged \(ValueError: it has no candidates\); run the"),
        (
            '{"format": 3, "points": [{"candidates": [], "shapes": {}, "dims": {}}]}',
            r"is damaged \(ValueError: it has no candidates\); run the",
        ),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_benchmark(tmp_path / "run.json")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_benchmark(tmp_path / "missing.json")
