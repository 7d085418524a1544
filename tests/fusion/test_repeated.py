"""Names that differ in a number become one."""

from __future__ import annotations

import pytest

from rms_deploy.fusion.repeated import repeated


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["norm"], ["norm"]),
        (["layers.0.norm", "layers.1.norm", "norm"], ["layers.{0-1}.norm x2", "norm"]),
        (["l.0.norm1", "l.0.norm2", "l.1.norm1", "l.1.norm2", "l.2.norm1"], ["l.{0-2}.norm1 x3", "l.{0-1}.norm2 x2"]),
        (["n1", "n2", "n5", "n9"], ["n{1-2,5,9} x4"]),
        (["n1", "n3", "n5", "n9"], ["n{1...9} x4"]),
        (["n1", "n1"], ["n1 x2"]),
        (["a{}0", "a{}1", "b%s"], ["a{}{0-1} x2", "b%s"]),
        (["l.9.n", "l.10.n"], ["l.{9-10}.n x2"]),
        ([], []),
    ],
)
def test_groups(names: list[str], expected: list[str]) -> None:
    assert [name for name, _ in repeated(names)] == expected


def test_every_name_is_in_one_group_in_order() -> None:
    groups = [positions for _, positions in repeated(["b.0", "a", "b.1", "c.0.0", "c.1.0", "c.2.1"])]
    assert groups == [[0, 2], [1], [3, 4], [5]]
