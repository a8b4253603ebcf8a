"""A LoRA of rank 8 on the queries and values of MiniLM: kotya against PEFT over `transformers`, alternated in one run.

    python benchmarks/adapting.py                              everything, 3 rounds
    python benchmarks/adapting.py --work long --rounds 5

Training: examples a second, float32, and bf16 where the CPU has instructions for it. Predicting: the base, and the base
with the LoRA merged and not. Every measurement is a process of its own; `tuned` is the peer under the allocator setting
that kotya's command line makes for itself, and ratios are against it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

import bert_texts
import machine
import peers
from kotya.training.precision import resolve
from training import TUNED

HERE = Path(__file__).parent


@dataclass
class Side:
    name: str
    work: str
    precision: str
    adapter: str = "apart"
    speeds: list[float] = field(default_factory=list)
    memory: float = 0.0

    def run(self, steps: int, python: Path) -> None:
        script = HERE / ("adapting_kotya.py" if self.name == "kotya" else "adapting_peft.py")
        command = [python, script, "--work", self.work, "--precision", self.precision]
        command += ["--adapter", self.adapter, "--steps", str(steps)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "KOTYA_MINILM": str(bert_texts.model_folder())}
        environment |= TUNED if self.name.endswith("tuned") else {}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            sys.exit(f"{script.name} failed:\n{done.stderr[-2_000:]}")
        answer = json.loads(done.stdout.splitlines()[-1])
        self.speeds.append(answer["speed"])
        self.memory = max(self.memory, answer["peak_gib"])
        print(f"{self.label}: {self.speeds[-1]:9.1f} examples/s", file=sys.stderr, flush=True)

    @property
    def label(self) -> str:
        return f"{self.work:8} {self.precision:8} {self.adapter:7} {self.name:12}"


def sides(precisions: list[str]) -> list[Side]:
    names = ("kotya", "PEFT", "PEFT, tuned")
    training = [
        Side(name, work, precision)
        for work in ("short", "long")
        for precision in precisions
        for name in names
    ]
    predicting = [
        Side(name, "predict", "float32", adapter) for adapter in ("none", "merged", "apart") for name in names
    ]
    return training + predicting


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", choices=["short", "long", "predict"], help="this alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=20, help="batches in a round, after three that are not timed"
    )
    parser.add_argument("--python", type=Path, help="one that has PEFT, instead of the peers' own")
    chosen = parser.parse_args()
    fast, _ = resolve("auto", torch.device("cpu"))
    every = sides(["float32", "bf16"] if fast else ["float32"])
    every = [side for side in every if chosen.work in (None, side.work)]
    print(machine.describe())
    other = chosen.python or peers.install()
    for _ in range(chosen.rounds):
        for side in every:
            steps = max(1, chosen.steps // 2) if side.work == "long" else chosen.steps
            side.run(steps, Path(sys.executable) if side.name == "kotya" else other)
    report(every)


def report(every: list[Side]) -> None:
    heading = f"{'':8} {'':8} {'':7} {'':12}"
    print(f"\n{heading} {'a second':>9} {'lowest':>8} {'highest':>8} {'GiB':>6} {'kotya is':>9}")
    ours = {
        (side.work, side.precision, side.adapter): statistics.median(side.speeds)
        for side in every
        if side.name == "kotya"
    }
    for side in every:
        middle, mine = statistics.median(side.speeds), ours[side.work, side.precision, side.adapter]
        times = f"{mine / middle:8.2f}×" if side.name != "kotya" else ""
        speeds = f"{middle:9.1f} {min(side.speeds):8.1f} {max(side.speeds):8.1f}"
        print(f"{side.label} {speeds} {side.memory:6.2f} {times}")


if __name__ == "__main__":
    main()
