"""A translator measured on a test set: BLEU and chrF with their signatures, and how long it took."""

import time
from dataclasses import dataclass
from pathlib import Path

from kotya import folder as folders
from kotya.errors import KotyaError
from kotya.inference.translator import Choice, Translator
from kotya.metrics import Score, translation_scores
from kotya.text.corpus import TextSource, read_parallel


@dataclass(frozen=True)
class Report:
    """What `kotya evaluate` says."""

    sources: str
    references: str
    lines: int
    scores: list[Score]
    seconds: float
    """Of translating alone, the model already loaded."""
    outputs: list[str]


def evaluate(
    translator: Translator, source: TextSource, target: TextSource, choice: Choice, *, workers: int = 1
) -> Report:
    """Translate a test set and score it. Raises KotyaError where the files are bad input."""
    pairs = list(read_parallel(source, target))
    began = time.perf_counter()
    found = translator.candidates([line for line, _ in pairs], choice, workers=workers)
    outputs = [candidates[0].text for candidates in found]
    seconds = time.perf_counter() - began
    scores = translation_scores(outputs, [reference for _, reference in pairs])
    return Report(str(source), str(target), len(pairs), scores, seconds, outputs)


def recipe_set(model: Path, part: str) -> tuple[TextSource, TextSource]:
    """The dev or test set of the model's recipe."""
    folders.read_config(model)
    recipe = folders.read_recipe(model)
    files = getattr(recipe.data, part) if recipe is not None else None
    if recipe is None or files is None:
        raise KotyaError(
            f"{model}: its recipe names no {part} set; give two files: kotya evaluate MODEL SOURCE TARGET"
        )
    source, target = files.open(recipe.data_root())
    return source, target
