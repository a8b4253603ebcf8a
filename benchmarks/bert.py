"""Fine-tuning, predicting and pretraining MiniLM: kotya against padded `transformers` loops, alternated in one run.

    python benchmarks/bert.py                                  everything, 3 rounds
    python benchmarks/bert.py --work long --precision bf16 --rounds 5

Every measurement is a process of its own. `tuned` is the peer under the allocator setting that kotya's command line
makes for itself (see kotya.cli.allocator): that lever is not ours, so the peer gets it too, and ratios are against it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import bert_texts
import machine
import peers
from training import TUNED

HERE = Path(__file__).parent


@dataclass
class Side:
    name: str
    script: str
    work: str
    precision: str
    speeds: list[float] = field(default_factory=list)
    memory: float = 0.0

    def run(self, steps: int) -> None:
        own = self.name == "kotya"
        python = sys.executable if own else peers.install()
        command = [python, HERE / self.script, "--work", self.work, "--precision", self.precision]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "KOTYA_MINILM": str(bert_texts.model_folder())}
        environment |= TUNED if self.name.endswith("tuned") else {}
        command += ["--steps", str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            sys.exit(f"{self.script} failed:\n{done.stderr[-2_000:]}")
        answer = json.loads(done.stdout.splitlines()[-1])
        self.speeds.append(answer["speed"])
        self.memory = max(self.memory, answer["peak_gib"])
        line = (
            f"{self.work:>9} {self.precision:>8} {self.name:>20}: {self.speeds[-1]:9.1f} {answer['unit']}/s"
        )
        print(line, file=sys.stderr, flush=True)


SIDES = (
    ("kotya", "bert_kotya.py"),
    ("transformers", "bert_transformers.py"),
    ("transformers, tuned", "bert_transformers.py"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", choices=bert_texts.WORKS, help="this alone")
    parser.add_argument("--precision", choices=["float32", "bf16"], help="this alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=20, help="batches in a round, after three that are not timed"
    )
    parser.add_argument("--only", nargs="*", help="names of the sides to run")
    chosen = parser.parse_args()
    sides = [
        Side(name, script, work, precision)
        for work in bert_texts.WORKS
        for precision in ("float32", "bf16")
        for name, script in SIDES
        if chosen.work in (None, work) and chosen.precision in (None, precision)
        if not chosen.only or name in chosen.only
    ]
    print(machine.describe())
    for _ in range(chosen.rounds):
        for side in sides:
            side.run(chosen.steps // 2 if side.work in ("long", "pretrain") else chosen.steps)
    report(sides)


def report(sides: list[Side]) -> None:
    print(f"\n{'':9} {'':8} {'':20} {'a second':>9} {'lowest':>8} {'highest':>8} {'GiB':>6} {'kotya is':>9}")
    ours = {
        (side.work, side.precision): statistics.median(side.speeds) for side in sides if side.name == "kotya"
    }
    for side in sides:
        middle, mine = statistics.median(side.speeds), ours.get((side.work, side.precision))
        times = f"{mine / middle:8.2f}×" if mine is not None and side.name != "kotya" else ""
        speeds = f"{middle:9.1f} {min(side.speeds):8.1f} {max(side.speeds):8.1f}"
        print(f"{side.work:9} {side.precision:8} {side.name:20} {speeds} {side.memory:6.2f} {times}")


if __name__ == "__main__":
    main()
