"""Windows over a reader that may fail: nothing that came before the failure is lost."""

from collections.abc import Iterator

import pytest

from kotya.errors import KotyaError
from kotya.inference.windows import windows


def reader(count: int, *, fails: bool) -> Iterator[int]:
    yield from range(count)
    if fails:
        raise KotyaError(f"line {count + 1}")


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6])
def test_all_come_in_order(count: int) -> None:
    found = list(windows(reader(count, fails=False), 3))
    assert [one for window in found for one in window] == list(range(count))
    assert all(len(window) == 3 for window in found[:-1])
    assert all(found)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6])
def test_those_before_a_failure_come_first(count: int) -> None:
    came = []
    with pytest.raises(KotyaError, match=f"line {count + 1}"):  # noqa: PT012 (what came before is what is asked)
        for window in windows(reader(count, fails=True), 3):
            came += window
    assert came == list(range(count))
