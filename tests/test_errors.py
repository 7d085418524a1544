"""The errors of a user, and one line for those that are not ours."""

from __future__ import annotations

import pytest

from rms_deploy import errors
from rms_deploy.errors import InstallationError, MissingDependencyError, RmsDeployError, one_line


def test_every_error_has_the_one_base() -> None:
    for name in set(errors.__all__) - {"one_line"}:
        assert issubclass(getattr(errors, name), RmsDeployError), name
    assert issubclass(MissingDependencyError, InstallationError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad\nand its story"), "ValueError: bad"),
        (ValueError("\n  what follows:\n\n  the cause\nmore"), "ValueError: what follows: the cause"),
        (KeyError("name"), "KeyError: 'name'"),
        (RuntimeError(), "RuntimeError"),
        (RuntimeError(" \n "), "RuntimeError"),
    ],
)
def test_one_line(error, text) -> None:
    assert one_line(error) == text
