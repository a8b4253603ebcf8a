"""Translation speed of kotya against its peers, all on the same trained weights, alternated in one run.

    python benchmarks/translation.py                     a MarianMT folder; beam 1 and 5, 3 rounds
    python benchmarks/translation.py --beam 1 --rounds 5 --without JoeyNMT
    python benchmarks/translation.py --model lstm-mlp    an LSTM of JoeyNMT's shape, trained first where it is not there

Every measurement is a process of its own; a side's figure is the median of its rounds. JoeyNMT's Transformer runs once:
it is an order of magnitude slower. Every side may write 100 pieces a line, with an LSTM 40; BLEU (sacreBLEU) is on
test_2016_flickr.
"""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import sacrebleu

import machine
import peers
import rnns
import translating

HERE = Path(__file__).parent


@dataclass
class Side:
    name: str
    script: str
    kind: str = "float32"
    own: bool = False
    """Whether it runs in kotya's environment, or in the peers'."""
    once: bool = False
    """Whether it is too slow for more than one round."""
    speeds: list[float] = field(default_factory=list)
    memory: float = 0.0
    outputs: list[str] = field(default_factory=list)

    def run(self, model: str, beam: int) -> None:
        python = sys.executable if self.own else peers.install()
        command = [python, HERE / self.script, "--model", model, "--beam", str(beam), "--type", self.kind]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            sys.exit(f"{self.script} failed:\n{result.stderr[-2_000:]}")
        answer = json.loads(result.stdout.splitlines()[-1])
        self.speeds.append(answer["sentences_per_second"])
        self.memory = max(self.memory, answer["peak_gib"])
        self.outputs = answer["outputs"]
        speed = f"{self.speeds[-1]:8.1f} sentences/s"
        print(f"{self.name:>12} {self.kind:8} beam {beam}: {speed}", file=sys.stderr, flush=True)

    @property
    def median(self) -> float:
        return statistics.median(self.speeds)


def sides(model: str) -> list[Side]:
    kotya = Side("kotya", "translate_kotya.py", own=True)
    if model in rnns.NAMES:
        return [kotya, Side("JoeyNMT", "translate_joeynmt_rnn.py")]
    return [
        kotya,
        Side("transformers", "translate_transformers.py"),
        Side("CTranslate2", "translate_ctranslate2.py"),
        Side("CTranslate2", "translate_ctranslate2.py", kind="int8"),
        Side("JoeyNMT", "translate_joeynmt.py", once=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=translating.MODELS, default=translating.MODELS[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beam", type=int, nargs="*", default=[1, 5])
    parser.add_argument("--without", nargs="*", default=[], help="names of sides to leave out")
    arguments = parser.parse_args()
    model = arguments.model
    if model in rnns.NAMES:
        rnns.train(model)
    print(machine.describe())
    for beam in arguments.beam:
        chosen = [side for side in sides(model) if side.name not in arguments.without]
        for turn in range(arguments.rounds):
            for side in chosen:
                if turn == 0 or not side.once:
                    side.run(model, beam)
        report(chosen, beam)


def report(chosen: list[Side], beam: int) -> None:
    reference = translating.lines("en")
    kotya = next((side for side in chosen if side.name == "kotya"), None)
    heads = f"{'lines/s':>8} {'lowest':>8} {'highest':>8} {'BLEU':>6} {'GiB':>6} {'kotya is':>9} same"
    print(f"\nbeam {beam:<7} {'':8} {heads}")
    for side in chosen:
        bleu = sacrebleu.corpus_bleu(side.outputs, [reference]).score
        figures = f"{side.median:8.1f} {min(side.speeds):8.1f} {max(side.speeds):8.1f} {bleu:6.2f} {side.memory:6.2f}"
        if kotya is not None and side is not kotya:
            same = sum(ours == theirs for ours, theirs in zip(kotya.outputs, side.outputs, strict=True))
            figures += f" {kotya.median / side.median:8.2f}× {same}"
        print(f"{side.name:12} {side.kind:8} {figures}")


if __name__ == "__main__":
    main()
