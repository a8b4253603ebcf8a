"""The demo: a corpus made by the grammar, a small Transformer trained on it, held-out sentences translated."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kotya import recipe as recipes
from kotya.demo.grammar import SHOWN, Corpus, Pair, make_corpus
from kotya.errors import Fault, KotyaError
from kotya.files import write_text
from kotya.inference.loading import load_translator
from kotya.inference.translator import Translator
from kotya.metrics import Score, translation_scores
from kotya.pictures.alignment import draw_alignment
from kotya.training.progress import Reporter
from kotya.training.run import train

GOOD = 90.0
"""The BLEU of held-out sentences under which the demo has failed."""

MARK = ".kotya-demo"
"""The file by which a demo knows what it may replace."""

RECIPE: dict[str, Any] = {
    "task": "translation",
    "data": {name: {"source": f"{name}.ru", "target": f"{name}.en"} for name in ("train", "dev", "test")},
    "vocabulary": {"size": 1200},
    "model": {"preset": "transformer-tiny", "feed_forward": 256, "encoder_layers": 2, "decoder_layers": 2},
    "training": {
        "updates": 750,
        "tokens": 1024,
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "warmup": 100,
        "label_smoothing": 0.1,
        "precision": "float32",
        "evaluate_every": 375,
    },
    "search": {"beam": 4},
}


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    model: Path
    picture: Path
    translations: list[tuple[Pair, str]]
    bleu: Score
    test_size: int
    training_seconds: float


def run(folder: Path, reporter: Reporter, say: Callable[[str], None]) -> Outcome:
    """All of the demo, in `folder`. Raises Fault where the held-out BLEU is under 90."""
    model, data, picture = folder / "model", folder / "data", folder / "alignment.png"
    claim(folder, model, data, picture)
    corpus = make_corpus()
    write(corpus, data)
    say(
        f"{len(corpus.train):,} pairs to learn from, made by a grammar of 64 nouns and 29 verbs; "
        f"{len(corpus.test)} others are kept for the end. They are in {data}"
    )
    content = {**RECIPE, "data": {"root": str(data.resolve()), **RECIPE["data"]}}
    began = time.monotonic()
    outcome = train(recipes.parse(content, "the demo's recipe"), model, reporter=reporter)
    seconds = time.monotonic() - began
    if not outcome.finished:
        raise KeyboardInterrupt
    translator = load_translator(model)
    outputs = translator.translate([pair.russian for pair in corpus.test])
    bleu = translation_scores(outputs, [pair.english for pair in corpus.test])[0]
    draw(translator, SHOWN[0].russian, outputs[0], picture)
    if bleu.value < GOOD:
        raise Fault(
            f"the held-out BLEU is {bleu.value:.1f}, under {GOOD:.0f}: something is wrong with this build"
        )
    shown = list(zip(corpus.test, outputs, strict=True))[: len(SHOWN)]
    return Outcome(model, picture, shown, bleu, len(corpus.test), seconds)


def claim(folder: Path, model: Path, data: Path, picture: Path) -> None:
    """Remove the model and the picture of an earlier demo. Raises KotyaError where there is what none made."""
    mark = folder / MARK
    for path in (model, data, picture):
        if path.exists() and not mark.exists():
            raise KotyaError(f"{path}: no demo made this; move it, or name another --output")
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    if model.exists():
        shutil.rmtree(model)
    picture.unlink(missing_ok=True)


def write(corpus: Corpus, data: Path) -> None:
    """The corpus as aligned files: train.ru, train.en and so on."""
    data.mkdir(parents=True, exist_ok=True)
    for name, pairs in corpus._asdict().items():
        for language, side in (("ru", 0), ("en", 1)):
            write_text(data / f"{name}.{language}", "".join(f"{pair[side]}\n" for pair in pairs))


def draw(translator: Translator, source: str, target: str, picture: Path) -> None:
    """The alignment picture of a translation: the last layer's cross-attention, the mean of its heads."""
    [found] = translator.align([(source, target)])
    draw_alignment(found.weights, found.columns, found.rows, picture)
