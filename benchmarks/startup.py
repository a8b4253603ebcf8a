"""How long a person waits: `kotya --help`, and the first translation from a cold start, wall seconds.

    python benchmarks/startup.py

The first run of each is not counted: it fills the system's file cache and Python's compiled files.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import corpus
import machine
import translating

KOTYA = Path(sys.prefix) / "bin" / "kotya"
SENTENCE = "Ein Mann schläft in einem grünen Raum auf einem Sofa.\n"


def seconds(command: list[object], text: str = "") -> float:
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    imported = corpus.FOLDER / "imported"
    if not imported.exists():
        subprocess.run([KOTYA, "import", translating.model_folder(), imported], check=True)
    sides: dict[str, tuple[list[object], str]] = {
        "kotya --help": ([KOTYA, "--help"], ""),
        "kotya translate, one line": ([KOTYA, "translate", imported], SENTENCE),
        "python -c 'import torch'": ([sys.executable, "-c", "import torch"], ""),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, (command, text) in sides.items():
            taken = seconds(command, text)
            if turn:
                times[name].append(taken)
    print(machine.describe())
    for name, taken in times.items():
        print(f"{name:28} {statistics.median(taken):6.2f} s   ({min(taken):.2f}–{max(taken):.2f})")


if __name__ == "__main__":
    main()
