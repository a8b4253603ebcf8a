"""The cells of a table, several at once where the machine has room for them: a GPU, or many cores."""

import sys
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

WRITING = Lock()
"""Held while what all cells share is written: texts, tables and what they are made of."""
_MAKING: dict[Path, Lock] = {}


def making(path: Path) -> Lock:
    """Held while what lies there is made, such as a base; each its own."""
    with WRITING:
        return _MAKING.setdefault(path, Lock())


def run_all(cells: Iterable[Callable[[], object]], jobs: int) -> int:
    """How many failed. Each is processes of its own, `jobs` of them at a time; one that fails stops no other."""

    def attempt(cell: Callable[[], object]) -> bool:
        try:
            cell()
        except SystemExit as stop:
            print(stop.code, file=sys.stderr, flush=True)
            return False
        except Exception:  # whatever it was, it is shown, and the others go on
            traceback.print_exc()
            return False
        return True

    with ThreadPoolExecutor(jobs) as pool:
        failed = list(pool.map(attempt, cells)).count(False)
    if failed:
        print(f"{failed} cells failed, see above", file=sys.stderr)
    return failed
