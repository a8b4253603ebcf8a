"""Cells side by side: each is tried, and the end says how many failed."""

import sys

import pytest

from benchmarks.cells import run_all


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_cell_that_fails_stops_no_other(jobs: int, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []

    def cell(number: int) -> None:
        if number == 0:
            sys.exit("no data")
        if number == 2:
            raise ValueError("no number")
        done.append(number)

    assert run_all([lambda number=number: cell(number) for number in range(8)], jobs) == 2
    assert sorted(done) == [1, 3, 4, 5, 6, 7]
    said = capsys.readouterr().err
    assert "no data" in said
    assert "ValueError: no number" in said
    assert "2 cells failed" in said
