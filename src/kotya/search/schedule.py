"""Keeps batches full: waiting lines are sorted by length, finished ones leave at once, answers come in input order.

Lines are taken from the input up to a window ahead of the first unanswered one, so memory is bounded and answers
stream. Whoever has room takes the longest waiting lines: neighbours in a batch are of like length, and the last ones
are short. With several workers each is a thread with a batch of its own: one worker a core, each with one torch thread,
beats many threads on one batch, because the matrices are small.
"""

import threading
from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue

import torch

from kotya.search.batch import Answer, Batch
from kotya.search.hypothesis import Hypothesis, SearchLine

_REFILL = 0.75


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
        """Up to `count` of the longest lines, padded to at most `positions` together (one line always); none: all done, or none yet."""
        with self.changed:
            while block and not self.lines and not self.closed:
                self.changed.wait()
            if not self.lines:
                return []
            longest = len(self.lines[-1].source) + 1
            count = max(1, min(count, positions // longest))
            taken = self.lines[-count:][::-1]
            del self.lines[-count:]
            return taken


def run(batch: Batch, waiting: Waiting, rows: int, positions: int, *, block: bool) -> Iterator[list[Answer]]:
    """Work until no line waits. Up to `rows` lines at once."""
    while True:
        if len(batch) <= _REFILL * rows:
            lines = waiting.take(rows - len(batch), positions, block=block and not len(batch))
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

    `rows` is how many lines a batch holds, `positions` the most padded source pieces read at once.
    """
    waiting = Waiting()
    answers: SimpleQueue[list[Answer] | BaseException] = SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        try:
            torch.set_num_threads(1)
            for some in run(make(), waiting, rows, positions, block=True):
                if some:
                    answers.put(some)
                if stopped.is_set():
                    return
        except BaseException as error:
            answers.put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield from _in_order(lines, waiting, answers, window)
    finally:
        stopped.set()
        waiting.close()
        for thread in threads:
            thread.join()


def _in_order(
    lines: Iterable[SearchLine],
    waiting: Waiting,
    answers: "SimpleQueue[list[Answer] | BaseException]",
    window: int,
) -> Iterator[list[Hypothesis]]:
    source = iter(lines)
    asked = answered = 0
    more = True
    early: dict[int, list[Hypothesis]] = {}
    while True:
        while more and asked - answered < window:
            line = next(source, None)
            if line is None:
                more = False
                waiting.close()
            else:
                waiting.put(line)
                asked += 1
        if not more and asked == answered:
            return
        some = answers.get()
        if isinstance(some, BaseException):
            raise some
        early.update((line.number, hypotheses) for line, hypotheses in some)
        while answered in early:
            yield early.pop(answered)
            answered += 1
