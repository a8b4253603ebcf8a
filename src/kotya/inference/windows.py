"""Lines that are worked on several at a time, out of a reader that may fail."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def windows(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """So many at a time. Where the next one fails to come, those before it are handed on first."""
    ahead, window = iter(items), list[Item]()
    while True:
        try:
            window.append(next(ahead))
        except StopIteration:
            if window:
                yield window
            return
        except Exception:
            if window:
                yield window
            raise
        if len(window) == size:
            yield window
            window = []
