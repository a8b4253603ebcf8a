"""Keeps batches full: waiting lines are sorted by length, finished ones leave at once, answers come in input order.

Lines are taken from the input up to a window ahead of the first unanswered one, so memory is bounded and answers
stream. Whoever has room takes the longest waiting lines: neighbours in a batch are of like length, and the last ones
are short. With several workers each is a thread with a batch of its own: one worker a core, each with one torch thread,
beats many threads on one batch, because the matrices are small.
"""

import threading
from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue

import torch

from kotya.search.batch import Answer, Batch
from kotya.search.hypothesis import Hypothesis, SearchLine

_REFILL = 0.5
"""A batch takes new lines when it is at most this full: taking many at a time keeps their reading efficient."""
_LINGER = 0.01
"""Seconds that an idle worker waits for more lines after one came, so as not to start with a small batch."""


class Waiting:
    """Lines read but not begun, by length, for any number of takers."""

    def __init__(self) -> None:
        self.lines: list[SearchLine] = []
        self.changed = threading.Condition()
        self.closed = False

    def put(self, line: SearchLine) -> None:
        with self.changed:
            insort(self.lines, line, key=lambda one: len(one.source))
            self.changed.notify()

    def close(self) -> None:
        """No more lines will come."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def take(self, count: int, positions: int, *, block: bool) -> list[SearchLine]:
        """Up to `count` of the longest lines, padded to at most `positions` together, but one at least.

        None when no line waits; with `block`, when none will come.
        """
        with self.changed:
            if block:
                self._wait(count)
            if not self.lines:
                return []
            longest = len(self.lines[-1].source) + 1
            count = max(1, min(count, positions // longest))
            taken = self.lines[-count:][::-1]
            del self.lines[-count:]
            return taken

    def _wait(self, count: int) -> None:
        while not self.lines and not self.closed:
            self.changed.wait()
        waiting = 0
        while waiting < len(self.lines) < count and not self.closed:
            waiting = len(self.lines)
            self.changed.wait_for(lambda: len(self.lines) >= count or self.closed, _LINGER)


def run(batch: Batch, waiting: Waiting, rows: int, positions: int) -> Iterator[list[Answer]]:
    """Work until no line will come. Up to `rows` lines at once."""
    while True:
        if len(batch) <= _REFILL * rows:
            lines = waiting.take(rows - len(batch), positions, block=not len(batch))
            if lines:
                yield batch.admit(lines)
            elif not len(batch):
                return
        if len(batch):
            yield batch.step()


def search_lines(
    make: Callable[[], Batch],
    lines: Iterable[SearchLine],
    *,
    rows: int,
    positions: int = 8192,
    window: int = 2048,
    workers: int = 1,
) -> Iterator[list[Hypothesis]]:
    """Hypotheses of every line, in input order. Lines must be numbered from 0 in that order.

    `rows` is how many lines a batch holds, `positions` the most padded source pieces read at once. Lines are read in a
    thread, ahead of the answers. What `lines` raises is raised here, after the answers to all lines before it.
    """
    work = _Work(make, Waiting(), rows, positions)
    room = threading.Semaphore(window)
    threads = [threading.Thread(target=work.feed, args=(lines, room), daemon=True)]
    threads += [
        threading.Thread(target=work.search, args=(workers > 1,), daemon=True) for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        for hypotheses in work.in_order():
            room.release()
            yield hypotheses
    finally:
        work.stopped.set()
        work.waiting.close()
        room.release()  # so that a reader which waits for room sees it
        for thread in threads[1:]:
            thread.join()


@dataclass(frozen=True)
class _End:
    """No more lines will come."""

    count: int
    """How many there were."""
    error: BaseException | None = None
    """What ended them, where it was not the end of the input."""


class _Work:
    """What the reader, the workers and the one who waits for answers share."""

    def __init__(self, make: Callable[[], Batch], waiting: Waiting, rows: int, positions: int) -> None:
        self.make, self.waiting, self.rows, self.positions = make, waiting, rows, positions
        self.answers: SimpleQueue[list[Answer] | _End | BaseException] = SimpleQueue()
        self.stopped = threading.Event()

    def feed(self, lines: Iterable[SearchLine], room: threading.Semaphore) -> None:
        """Read the input, at most a window ahead; then say how many lines it had, and why no more."""
        count = 0
        try:
            for line in lines:
                room.acquire()
                if self.stopped.is_set():
                    return
                self.waiting.put(line)
                count += 1
            self.answers.put(_End(count))
        except BaseException as error:
            self.answers.put(_End(count, error))
        finally:
            self.waiting.close()

    def search(self, one_thread: bool) -> None:
        """A worker."""
        try:
            if one_thread:
                torch.set_num_threads(1)
            for some in run(self.make(), self.waiting, self.rows, self.positions):
                if self.stopped.is_set():
                    return
                if some:
                    self.answers.put(some)
        except BaseException as error:
            self.answers.put(error)

    def in_order(self) -> Iterator[list[Hypothesis]]:
        """The answers, each as soon as all before it are there."""
        answered, end = 0, _End(-1)
        early: dict[int, list[Hypothesis]] = {}
        while answered != end.count:
            some = self.answers.get()
            if isinstance(some, BaseException):
                raise some
            if isinstance(some, _End):
                end = some
                continue
            early.update((line.number, hypotheses) for line, hypotheses in some)
            while answered in early:
                yield early.pop(answered)
                answered += 1
        if end.error is not None:
            raise end.error
