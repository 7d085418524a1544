"""Comparisons as a table."""

from __future__ import annotations

from dataclasses import replace

from rms_deploy.verification.check import check_table

from ..made_results import verification


def test_a_row_for_each_check() -> None:
    checks = verification().checks
    failed = replace(checks[0], passed=False, candidate_error=replace(checks[0].difference, nonfinite_mismatches=1))
    table = check_table([*checks, failed])
    first, *_, last = table.rows
    assert first == (
        *("normal", "present.0.key (float16)", "equal", "3.9e-07", "1.5e-05", "22609920*"),
        *("3.9e-07", "3.9e-07", "3.9e-07"),
    )
    assert (last[2], last[5], last[7]) == ("NOT equal", "22609920", "not finite")
    assert set(table.first_to_go) < set(table.header)


def test_many_ulps_of_a_large_element_have_no_star() -> None:
    check = verification().checks[0]
    assert check.has_explained_ulps
    assert not replace(check, difference=replace(check.difference, max_ulp_at=1.0)).has_explained_ulps
