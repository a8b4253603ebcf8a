"""The cells of a table, several at once where the machine has room for them: a GPU, or many cores."""

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

WRITING = Lock()
"""Held while what all cells share is made: a base, texts, the table."""


def run_all(cells: Iterable[Callable[[], object]], jobs: int) -> None:
    """Each is processes of its own, `jobs` of them at a time. One that fails stops no other; the end says which did."""

    def attempt(cell: Callable[[], object]) -> bool:
        try:
            cell()
        except SystemExit as stop:
            print(stop.code, file=sys.stderr, flush=True)
            return False
        return True

    with ThreadPoolExecutor(jobs) as pool:
        done = list(pool.map(attempt, cells))
    if not all(done):
        sys.exit(f"{done.count(False)} of {len(done)} cells failed, see above")
