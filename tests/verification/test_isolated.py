"""A call in another process: its result, its errors, its end."""

from __future__ import annotations

import pickle

import pytest

from rms_deploy.errors import InputError, RunError
from rms_deploy.verification.isolated import call_isolated, main


def test_what_is_returned_comes_back():
    assert call_isolated("math", "gcd", 12, 18, timeout=60) == 6


def test_what_is_raised_comes_back():
    with pytest.raises(InputError, match="float16"):
        call_isolated("rms_deploy.ops.forms", "norm_form", "float16", argument="target", timeout=60)
    with pytest.raises(ZeroDivisionError):
        call_isolated("operator", "truediv", 1, 0, timeout=60)


def test_what_never_ends_is_ended():
    with pytest.raises(RunError, match=r"did not end within 0\.5 s, and was ended; a longer `timeout` waits"):
        call_isolated("time", "sleep", 600, timeout=0.5)


@pytest.mark.parametrize(
    ("name", "arguments", "end"),
    [("_exit", (3,), "ended with exit code 3"), ("abort", (), "was ended by SIGABRT")],
)
def test_a_process_that_dies_is_an_error(name, arguments, end):
    with pytest.raises(RunError, match=f"it was not finished: its process {end}"):
        call_isolated("os", name, *arguments, timeout=60)


def test_the_process_leaves_its_result_in_the_folder(tmp_path):
    (tmp_path / "call").write_bytes(pickle.dumps(("math", "hypot", (3, 4), {})))
    main(str(tmp_path))
    assert pickle.loads((tmp_path / "result").read_bytes()) == (5.0, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["call", "result"]
