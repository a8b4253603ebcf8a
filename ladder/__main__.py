"""Climb a ladder: train what is missing, measure it, write its page.

    python -m ladder              Multi30k: docs/results/ladder.md
    python -m ladder rus-eng      short Russian sentences: docs/results/rus-eng.md

It may be stopped at any time; the same command goes on. The page is written anew after every rung.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from kotya.cli.allocator import tune_allocator
from kotya.cli.main import explain, say
from kotya.files import write_text
from kotya.inference.lengths import compare
from kotya.training.progress import Reporter, Terminal
from ladder.climb import RECORD, Record, climb
from ladder.page import page
from ladder.rungs import LADDERS, Ladder


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code: that of `kotya train`."""
    parser = argparse.ArgumentParser(
        prog="python -m ladder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", nargs="?", choices=list(LADDERS), default="multi30k")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the model folders are; runs")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …")
    options = parser.parse_args(arguments)
    tune_allocator()
    try:
        climb_all(LADDERS[options.corpus], options.runs, Terminal(), device=options.device)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        return 130
    except Exception as error:
        if os.environ.get("KOTYA_TRACEBACK"):
            raise
        code, message = explain(error)
        say(message)
        return code
    return 0


def climb_all(ladder: Ladder, runs: Path, reporter: Reporter, *, device: str) -> list[Record]:
    """Rung by rung, the page after each; the length figure at the end, when something new was climbed."""
    workers = cores()
    folders = {rung: runs / ladder.corpus / rung for rung in ladder.rungs}
    records = {rung: Record.read(run / RECORD) for rung, run in folders.items() if (run / RECORD).exists()}
    figure = ladder.page.with_name(f"{ladder.page.stem}-lengths.png")
    ladder.page.parent.mkdir(parents=True, exist_ok=True)
    changed = not figure.exists()
    for rung, run in folders.items():
        records[rung], new = climb(rung, ladder.recipe(rung), run, reporter, device=device, workers=workers)
        changed = changed or new
        scores = ", ".join(f"{score.name} {score.value:.2f}" for score in records[rung].scores)
        reporter.say(f"{rung}: {scores}")
        write_text(ladder.page, page(ladder, [*records.values()], figure.name if figure.exists() else None))
    if changed:
        threads = torch.get_num_threads()
        compare([*folders.values()], None, workers=workers, threads=threads).draw(figure)
        write_text(ladder.page, page(ladder, [*records.values()], figure.name))
    reporter.say(str(ladder.page))
    return [records[rung] for rung in ladder.rungs]


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
