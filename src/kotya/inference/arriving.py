"""Lines in groups, as many as have come: a file's are handed on by the thousand, a person's one by one.

A thread reads ahead. Whoever works on a group sorts it into full batches; the answers go out in the order of the lines.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import Empty, Queue
from typing import TypeVar

Item = TypeVar("Item")

_LINGER = 0.01
"""Seconds to wait for one more line before the group is handed on as it is."""


class _Over:
    """No more will come."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def arriving(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Groups of up to `size`. What the reader raises is raised after the group of those before it."""
    queue: Queue[Item | _Over] = Queue(2 * size)
    stopped = threading.Event()

    def read() -> None:
        error = None
        try:
            for item in items:
                queue.put(item)
                if stopped.is_set():
                    return
        except BaseException as problem:
            error = problem
        queue.put(_Over(error))

    threading.Thread(target=read, daemon=True).start()
    try:
        while True:
            group: list[Item] = []
            item = queue.get()
            while not isinstance(item, _Over):
                group.append(item)
                if len(group) == size:
                    break
                try:
                    item = queue.get(timeout=_LINGER)
                except Empty:
                    break
            if group:
                yield group
            if isinstance(item, _Over):
                if item.error is not None:
                    raise item.error
                return
    finally:
        stopped.set()
        with suppress(Empty):  # a reader that waits for room has it, and sees that it may stop
            while True:
                queue.get_nowait()
