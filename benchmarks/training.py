"""Training speed of kotya against its peers: real target tokens a second, all sides alternated in one run.

    python benchmarks/training.py                    every side, 3 rounds of 10 updates
    python benchmarks/training.py --only plain kotya --precision bf16 --rounds 5
    python benchmarks/training.py --model gru-mlp    JoeyNMT's RNN, in kotya and in JoeyNMT

Every measurement is a process of its own. The figure of a side is the median of its rounds; a ratio is taken
between medians of the same run. `plain, tuned` is the plain loop under the allocator setting that kotya's own
command line makes for itself (see kotya.cli.allocator): that lever is not ours, so the peer gets it too.
`kotya, dropouts` also drops attention weights and the inside of the feed-forward layer, as nn.Transformer's one
setting does; kotya's presets, like the paper and Marian, drop embeddings and the outputs of sublayers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import architectures
import corpus
import machine
import peers

HERE = Path(__file__).parent
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}


@dataclass
class Side:
    name: str
    script: str
    precision: str
    options: tuple[str, ...] = ()
    model: str = "transformer"
    own: bool = False
    """Whether it runs in kotya's environment, or in the peers'."""
    tuned: bool = False
    speeds: list[float] = field(default_factory=list)
    memory: float = 0.0

    def run(self, steps: int) -> None:
        python = sys.executable if self.own else peers.install()
        command = [python, HERE / self.script, "--steps", str(steps), *self.options]
        if self.script in ("kotya_loop.py", "joeynmt_loop.py"):
            command += ["--model", self.model]
        if self.script != "joeynmt_loop.py":
            command += ["--precision", self.precision]
        environment = os.environ | (TUNED if self.tuned else {})
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if result.returncode:
            sys.exit(f"{self.script} failed:\n{result.stderr[-2_000:]}")
        answer = json.loads(result.stdout.splitlines()[-1])
        self.speeds.append(answer["tokens_per_second"])
        self.memory = max(self.memory, answer["peak_gib"])
        print(
            f"{self.name:>16} {self.precision}: {self.speeds[-1]:8.0f} tokens/s", file=sys.stderr, flush=True
        )

    @property
    def median(self) -> float:
        return statistics.median(self.speeds)


def sides(model: str) -> list[Side]:
    both = ("float32", "bf16")
    if model != "transformer":
        return [
            *(Side("kotya", "kotya_loop.py", precision, model=model, own=True) for precision in both),
            Side("JoeyNMT", "joeynmt_loop.py", "float32", model=model),
        ]
    return [
        *(Side("plain", "plain_loop.py", precision, own=True) for precision in both),
        *(Side("plain, tuned", "plain_loop.py", precision, own=True, tuned=True) for precision in both),
        *(Side("kotya", "kotya_loop.py", precision, own=True) for precision in both),
        *(
            Side("kotya, dropouts", "kotya_loop.py", precision, ("--dropouts", "all"), own=True)
            for precision in both
        ),
        *(Side("Marian", "marian_loop.py", precision) for precision in both),
        Side("JoeyNMT", "joeynmt_loop.py", "float32"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=10, help="updates in a round, after two that are not timed"
    )
    parser.add_argument("--only", nargs="*", help="names of the sides to run")
    parser.add_argument("--model", choices=architectures.NAMES, default="transformer")
    parser.add_argument("--precision", choices=["float32", "bf16"], help="this precision alone")
    arguments = parser.parse_args()
    chosen = [
        side
        for side in sides(arguments.model)
        if (not arguments.only or side.name in arguments.only)
        and arguments.precision in (None, side.precision)
    ]
    corpus.prepare()
    print(machine.describe())
    for _ in range(arguments.rounds):
        for side in chosen:
            side.run(arguments.steps)
    report(chosen)


def report(chosen: list[Side]) -> None:
    kotya = {side.precision: side.median for side in chosen if side.name == "kotya"}
    print(f"\n{'':16} {'':8} {'tokens/s':>9} {'lowest':>8} {'highest':>8} {'GiB':>6} {'kotya is':>9}")
    for side in chosen:
        times = (
            f"{kotya[side.precision] / side.median:8.2f}×"
            if side.precision in kotya and side.name != "kotya"
            else ""
        )
        speeds = f"{side.median:9.0f} {min(side.speeds):8.0f} {max(side.speeds):8.0f}"
        print(f"{side.name:16} {side.precision:8} {speeds} {side.memory:6.2f} {times}")
    if len(kotya) == 2:
        print(f"kotya's bf16 is {kotya['bf16'] / kotya['float32']:.2f}× its float32")


if __name__ == "__main__":
    main()
