"""Steps done and in all, over several points."""

from __future__ import annotations

from rms_deploy.benchmark.progress import Progress


def test_each_point_corrects_what_is_expected_of_the_rest():
    said = []
    progress = Progress(2, lambda *step: said.append(step))
    progress.begin()
    progress.expect(3)
    progress.next("a")
    progress.expect(2)
    progress.next("b")
    progress.begin()
    progress.expect(1)
    progress.next("c")
    assert said == [(0, 6, "a"), (1, 4, "b"), (2, 3, "c")]


def test_nobody_need_listen():
    progress = Progress(1, None)
    progress.begin()
    progress.expect(1)
    progress.next("a")
