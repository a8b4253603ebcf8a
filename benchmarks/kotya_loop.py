"""kotya's own training loop over the shared batches, in a process set up as its command line sets up its own.

    python benchmarks/kotya_loop.py --precision bf16 --steps 10

`--dropouts all` also drops attention weights and the inside of the feed-forward layer, as `nn.Transformer` does;
without it, embeddings and sublayers only, as the paper has it and Marian does.
"""

import argparse
import tempfile
from pathlib import Path

from kotya.cli.allocator import tune_allocator

tune_allocator()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402

import architectures  # noqa: E402
import corpus  # noqa: E402
from kotya.models.composed import ModelConfig  # noqa: E402
from kotya.tasks.settings import TrainingConfig  # noqa: E402
from kotya.tasks.task import Evaluation, Indices  # noqa: E402
from kotya.tasks.translation import Translation, TranslationBatch  # noqa: E402
from kotya.training.loop import Loop  # noqa: E402
from timing import answer  # noqa: E402


class SharedBatches(Translation):
    """The task of translation on the benchmark's ids and batches; there is no dev set."""

    def __init__(self) -> None:
        self.pairs = corpus.sentences()
        self.smoothing, self.r_drop, self.rounds, self.guidance = 0.1, 0.0, 1, None

    def round(self, number: int) -> list[Indices]:
        return [np.array(indices) for indices in corpus.buckets(self.pairs)]

    def batch(self, indices: Indices, number: int) -> TranslationBatch:
        pairs = [self.pairs[index] for index in indices]
        source = corpus.padded([s for s, _ in pairs], before=[], after=[corpus.END], pad=corpus.PAD)
        inputs = corpus.padded([t for _, t in pairs], before=[corpus.BEGIN], after=[], pad=corpus.PAD)
        outputs = corpus.padded([t for _, t in pairs], before=[], after=[corpus.END], pad=corpus.PAD).ravel()
        real = np.flatnonzero(outputs != corpus.PAD)
        return TranslationBatch(
            source=torch.from_numpy(source),
            lengths=torch.tensor([len(s) + 1 for s, _ in pairs]),
            inputs=torch.from_numpy(inputs),
            real=torch.from_numpy(real),
            outputs=torch.from_numpy(outputs[real]),
        )

    def evaluate(self, model, autocast) -> Evaluation:
        return Evaluation({self.metric: 0.0}, [])


class Records:
    """Keeps what the loop reports of every update."""

    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []

    def step(self, update: int, record: dict[str, float]) -> None:
        self.records.append(record)

    def start(self, updates: int, update: int) -> None: ...
    def evaluation(self, update: int, evaluation: Evaluation, *, best: bool) -> None: ...
    def say(self, text: str) -> None: ...
    def stop(self) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--dropouts", choices=["paper", "all"], default="paper")
    parser.add_argument("--model", choices=architectures.NAMES, default="transformer")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    settings = architectures.kotya_model(arguments.model, dropouts=arguments.dropouts)
    model = TypeAdapter(ModelConfig).validate_python(settings).build(corpus.SIZE, corpus.SIZE)
    training = TrainingConfig(
        updates=arguments.warmup + arguments.steps,
        learning_rate=5e-4,
        schedule="constant",
        warmup=1,
        precision=arguments.precision,
        evaluate_every=10_000,
    )
    reporter = Records()
    with tempfile.TemporaryDirectory() as run:
        task, learned = SharedBatches(), dict(model.named_parameters())
        Loop(model, learned, task, training, Path(run), torch.device("cpu"), reporter).train()
    timed = reporter.records[arguments.warmup :]
    speed = sum(one["tokens"] for one in timed) / sum(one["seconds_per_update"] for one in timed)
    about = {"precision": arguments.precision, "dropouts": arguments.dropouts, "steps": arguments.steps}
    answer("kotya", speed, loss=timed[-1]["loss"], **about | {"allocator": "tuned"})


if __name__ == "__main__":
    main()
