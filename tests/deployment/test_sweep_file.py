"""The file of a sweep: what is in it, and what it refuses."""

from __future__ import annotations

import json

import pytest

from rms_deploy.deployment.sweep_file import SweepFile
from rms_deploy.errors import InputError, OutputError

SETTINGS = {"rounds": 10, "percentiles": (90.0, 99.0)}
KEY = {"sizes": {"batch": 1, "seq": 2}, "kind": ""}


@pytest.fixture
def path(tmp_path):
    with SweepFile(tmp_path / "points", SETTINGS) as file:
        assert file.get(KEY) is None
        file.add(KEY, {"a": 1})
        assert file.get(KEY) == {"a": 1}
    return tmp_path / "points"


def test_it_goes_on(path):
    with SweepFile(path, SETTINGS) as file:
        assert file.get({"kind": "", "sizes": {"seq": 2, "batch": 1}}) == {"a": 1}
        file.add({"sizes": {}}, {"b": 2})
    header, *points = map(json.loads, path.read_text().splitlines())
    assert header == {"format": 1, "settings": {"rounds": 10, "percentiles": [90.0, 99.0]}}
    assert [point["result"] for point in points] == [{"a": 1}, {"b": 2}]


def test_a_line_that_was_cut_is_dropped(path):
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[1][:-9])
    with SweepFile(path, SETTINGS) as file:
        file.add({"sizes": {}}, {"b": 2})
    assert path.read_bytes() == whole + b'{"key": {"sizes": {}}, "result": {"b": 2}}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\n", "holds no points of a sweep"),
        (b"hello", "holds no points of a sweep"),
        (b'{"format": 2, "points": []}\n', "holds no points of a sweep"),
        (b'{"format": 7, "settings": {}}\n', "has format 7, this version reads 1"),
        (
            b'{"format": 1, "settings": {"rounds": 3, "percentiles": [90, 99]}}\n',
            "was measured with `rounds` 3, and 10 is asked for; give another name",
        ),
    ],
)
def test_what_is_no_file_of_this_sweep_stays_as_it_is(content, message, tmp_path):
    (tmp_path / "points").write_bytes(content)
    with pytest.raises(InputError, match=message):
        SweepFile(tmp_path / "points", SETTINGS)
    assert (tmp_path / "points").read_bytes() == content


def test_two_sweeps_do_not_share_it(path):
    with SweepFile(path, SETTINGS), pytest.raises(InputError, match="another sweep is writing to it"):
        SweepFile(path, SETTINGS)


def test_it_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="is a directory"):
        SweepFile(tmp_path, SETTINGS)
