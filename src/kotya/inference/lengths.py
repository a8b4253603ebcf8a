"""How length tells on a translator: BLEU of short and of long sentences, and the time to read one.

The first is how Bahdanau, Cho and Bengio (2015, figure 2) showed that one vector does not hold a long sentence. The
second shows what Vaswani et al. (2017, table 1) counted: a recurrent encoder takes a step a word, one after another;
a convolution and attention take as many steps for any length.
"""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kotya.errors import KotyaError
from kotya.inference.evaluation import recipe_set
from kotya.inference.loading import load_translator
from kotya.inference.translator import Choice, Translator
from kotya.metrics import Interval, bleu_interval
from kotya.pictures.lengths import Curve, draw_lengths
from kotya.text.corpus import TextSource, read_parallel

FEWEST = 30
"""Lines of a bucket; BLEU of fewer says little."""
LENGTHS = (4, 8, 16, 32, 64, 128, 256, 512)
"""Source pieces that an encoder is timed on."""
REPEATS = 15
SECONDS = 1.0
"""An encoder is timed on one length no longer than this, once past three times."""


@dataclass(frozen=True)
class Bucket:
    """Lines whose sources have from `low` to `high` words."""

    low: int
    high: int
    mean: float
    """Words of a source, on the mean."""
    lines: int
    bleu: Interval


@dataclass(frozen=True)
class LengthReport:
    """What length does to one model."""

    name: str
    buckets: list[Bucket]
    encoder: dict[int, float]
    """Seconds for one sentence of so many pieces."""


@dataclass(frozen=True)
class Comparison:
    """Several models on one test set."""

    test: str
    """The file of the sources."""
    threads: int
    """That the encoders were timed with."""
    reports: list[LengthReport]

    def draw(self, path: Path) -> None:
        """Both figures, side by side."""
        quality = [
            Curve(
                one.name,
                [bucket.mean for bucket in one.buckets],
                [bucket.bleu.value for bucket in one.buckets],
                [bucket.bleu.low for bucket in one.buckets],
                [bucket.bleu.high for bucket in one.buckets],
            )
            for one in self.reports
        ]
        times = [
            Curve(one.name, [*one.encoder], [1000 * taken for taken in one.encoder.values()])
            for one in self.reports
        ]
        lines = [bucket.lines for bucket in self.reports[0].buckets]
        caption = (
            f"{self.test}: {sum(lines):,} lines in {len(lines)} groups of {min(lines)} to {max(lines)}; "
            f"bands: 95 % bootstrap intervals. Time: {self.threads} thread{'s' * (self.threads > 1)}, float32"
        )
        draw_lengths(quality, times, path, caption)


def compare(
    models: Sequence[Path], files: tuple[TextSource, TextSource] | None, *, workers: int, threads: int
) -> Comparison:
    """Several models on one test set: the files, or that of their recipes, which must then be the same one.

    Lines are translated by `workers`, each with one thread; the encoder is timed with `threads`.
    Raises KotyaError where there is no such test set, or it is too small.
    """
    sources, references, test = test_set(models, files)
    buckets(sources)  # too few lines should be said before minutes of translating
    reports = []
    for path, name in zip(models, names(models), strict=True):
        translator = load_translator(path)
        torch.set_num_threads(1)
        found = bleu_by_length(sources, references, translate_all(translator, sources, workers))
        torch.set_num_threads(threads)
        reports.append(LengthReport(name, found, encoder_seconds(translator)))
    return Comparison(test, threads, reports)


def test_set(
    models: Sequence[Path], files: tuple[TextSource, TextSource] | None
) -> tuple[list[str], list[str], str]:
    """Sources, references, and the name of the file."""
    chosen = files or recipe_set(models[0], "test")
    pairs = list(read_parallel(*chosen))
    for other in models[1:] if files is None else ():
        theirs = recipe_set(other, "test")
        if theirs != chosen and list(read_parallel(*theirs)) != pairs:
            raise KotyaError(
                f"{other} is tested on {theirs[0]}, {models[0]} on {chosen[0]}: "
                "name the files for all of them with --source and --target"
            )
    name = "/".join(chosen[0].paths[0].parts[-2:])
    return [source for source, _ in pairs], [reference for _, reference in pairs], name


def names(models: Sequence[Path]) -> list[str]:
    """The names of the folders; whole paths where two would be the same."""
    short = [path.resolve().name for path in models]
    return short if len(set(short)) == len(short) else [str(path) for path in models]


def buckets(sources: Sequence[str], count: int = 8) -> list[list[int]]:
    """Line numbers by source words (between spaces), shortest first: about so many buckets of about as many lines.

    Sentences of one length stand in one bucket. Raises KotyaError where there are too few lines for two.
    """
    words = np.array([len(line.split()) for line in sources])
    least = max(FEWEST, len(words) // count)
    found: list[list[int]] = [[]]
    for length in np.unique(words):
        if len(found[-1]) >= least:
            found.append([])
        found[-1] += np.flatnonzero(words == length).tolist()
    if len(found) > 1 and len(found[-1]) < least / 2:  # the few longest: their BLEU would be noise
        found[-2:] = [found[-2] + found[-1]]
    if len(found) < 2:
        raise KotyaError(
            f"{len(words)} lines of {words.min(initial=0)} to {words.max(initial=0)} words make no two groups of "
            f"{FEWEST} lines by length; take a larger test set"
        )
    return found


def bleu_by_length(sources: Sequence[str], references: Sequence[str], outputs: Sequence[str]) -> list[Bucket]:
    """BLEU of every bucket of source lengths."""
    made = []
    for lines in buckets(sources):
        words = [len(sources[i].split()) for i in lines]
        bleu = bleu_interval([outputs[i] for i in lines], [references[i] for i in lines])
        made.append(Bucket(min(words), max(words), statistics.mean(words), len(lines), bleu))
    return made


def translate_all(translator: Translator, sources: Sequence[str], workers: int) -> list[str]:
    """The translations by the model's own search settings."""
    choice = Choice(translator.search)
    return [found[0].text for found in translator.candidates(sources, choice, workers=workers)]


@torch.inference_mode()
def encoder_seconds(translator: Translator, lengths: Sequence[int] = LENGTHS) -> dict[int, float]:
    """Seconds that the encoder takes for one sentence of so many pieces: the median of several, none beside it."""
    generator = random.Random(1)
    size = len(translator.source)
    return {
        length: seconds(translator, [generator.randrange(size) for _ in range(length)]) for length in lengths
    }


def seconds(translator: Translator, source: list[int]) -> float:
    """One sentence, read again and again."""
    translator.ensemble.encode([source])
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < REPEATS and sum(taken) < SECONDS):
        began = time.perf_counter()
        translator.ensemble.encode([source])
        if translator.ensemble.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
