"""Search with JoeyNMT's RNNs, in kotya and in JoeyNMT: output pieces a second, alternated in one run.

    python benchmarks/searching.py                       both RNNs, beam 1 and 5, 3 rounds

Nothing was trained, so that hardly an output ends before the cap of 20 pieces on either side: what is compared is the
work of a step. (Trained models would gain kotya more: finished lines leave its batch, and new ones take their place.)
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import architectures
import corpus
import machine

PIECES = 20
LINES = 200
HERE = Path(__file__).parent


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", choices=tuple(architectures.RNNS), default="gru-mlp")
    parser.add_argument("--beam", type=int, default=1)
    return parser.parse_args()


def measure(name: str, search: Callable[[list[list[int]]], list[int]]) -> None:
    """Time `search`, which says how long its outputs are, on the first lines of the training set, and print it."""
    sources = [[int(piece) for piece in source] for source, _ in corpus.sentences()[:LINES]]
    search(sources[:64])
    start = time.perf_counter()
    lengths = search(sources)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "side": name,
                "speed": sum(lengths) / seconds,
                "pieces": sum(lengths) / len(lengths),
                "peak_gib": peak,
            }
        ),
        flush=True,
    )


def run(python: str, script: str, model: str, beam: int) -> tuple[float, float]:
    command = [python, HERE / script, "--model", model, "--beam", str(beam)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{script} failed:\n{result.stderr[-2_000:]}")
    answer = json.loads(result.stdout.splitlines()[-1])
    return answer["speed"], answer["peak_gib"]


def main() -> None:
    import peers

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    corpus.prepare()
    print(machine.describe())
    sides = {"kotya": (sys.executable, "search_kotya.py"), "JoeyNMT": (peers.install(), "search_joeynmt.py")}
    print(f"{'model':14} {'beam':>4} {'':8} {'pieces/s':>8} {'lowest':>8} {'highest':>8} {'GiB':>6} kotya is")
    for model in architectures.RNNS:
        for beam in (1, 5):
            found = {name: [] for name in sides}
            for _ in range(rounds):
                for name, (python, script) in sides.items():
                    found[name].append(run(python, script, model, beam))
            medians = {name: statistics.median(speed for speed, _ in one) for name, one in found.items()}
            for name, one in found.items():
                speeds, memory = [speed for speed, _ in one], max(gib for _, gib in one)
                figures = f"{medians[name]:8.1f} {min(speeds):8.1f} {max(speeds):8.1f} {memory:6.2f}"
                times = f"{medians['kotya'] / medians[name]:.2f}×" if name != "kotya" else ""
                print(f"{model:14} {beam:4} {name:8} {figures} {times}", flush=True)


if __name__ == "__main__":
    main()
