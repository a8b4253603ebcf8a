"""Cells side by side: each is tried, and the end says that some failed."""

import sys

import pytest

from benchmarks.cells import run_all


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_cell_that_fails_stops_no_other(jobs: int, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []

    def cell(number: int) -> None:
        if number == 1:
            sys.exit("no data")
        done.append(number)

    with pytest.raises(SystemExit, match="1 of 4 cells failed"):
        run_all([lambda number=number: cell(number) for number in range(4)], jobs)
    assert sorted(done) == [0, 2, 3]
    assert "no data" in capsys.readouterr().err
