"""A translator measured on a test set: BLEU and chrF with their signatures; the error rate of its word alignments."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kotya import folder as folders
from kotya.attention.reading import Reading, cross_layers
from kotya.errors import KotyaError
from kotya.inference.alignment import symmetrized
from kotya.inference.translator import Choice, Translator
from kotya.metrics import AlignmentScores, Score, alignment_scores, translation_scores
from kotya.tasks.translation_recipe import TranslationRecipe
from kotya.text.alignments import Gold, check_inside, read_gold
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


@dataclass(frozen=True)
class AlignmentReport:
    """What `kotya evaluate --alignments` says."""

    sources: str
    gold: str
    lines: int
    rows: list[tuple[Reading, AlignmentScores]]
    """Each way to read the attention, and how right it is."""


def evaluate_alignments(
    translator: Translator,
    reverse: Translator | None,
    source: TextSource,
    target: TextSource,
    gold: Path,
    reading: dict[str, Any],
) -> AlignmentReport:
    """Align the words of a test set and score that; with `reverse`, symmetrised (grow-diag-final-and).

    What `reading` leaves open, the layer and the step, is tried in every way. Raises KotyaError where the files are bad
    input or the gold alignments are not theirs.
    """
    pairs = list(read_parallel(source, target))
    answers = read_gold(gold)
    check_gold(pairs, answers, gold)
    sure, possible = [one.sure for one in answers], [one.possible for one in answers]
    rows = []
    for one in readings(translator, reading):
        aligner = translator.aligner(**one.model_dump())
        if reverse is None:
            found = aligner.align(pairs)
        else:
            found = symmetrized(aligner, reverse.aligner(**one.model_dump()), pairs, "grow-diag-final-and")
        rows.append((one, alignment_scores([alignment.links for alignment in found], sure, possible)))
    return AlignmentReport(str(source), str(gold), len(pairs), rows)


def check_gold(pairs: list[tuple[str, str]], answers: list[Gold], gold: Path) -> None:
    """Raises KotyaError where the gold alignments cannot be those of the pairs."""
    if len(pairs) != len(answers):
        raise KotyaError(f"{gold}.sure has {len(answers):,} lines but there are {len(pairs):,} pairs")
    for number, ((one, two), answer) in enumerate(zip(pairs, answers, strict=True), start=1):
        check_inside(answer.possible, len(one.split()), len(two.split()), f"{gold}.possible:{number}")


def readings(translator: Translator, chosen: dict[str, Any]) -> list[Reading]:
    """The ways to read a model's attention that are left open; the head is the one chosen, or the model's own."""
    own = translator.reading.model_dump() | chosen
    count = len(cross_layers(translator.ensemble.models[0].decoder))
    layers = [*range(1, count + 1), *(["mean"] if count > 1 else [])] or [own["layer"]]
    return [
        Reading.model_validate({**own, "layer": layer, "step": step})
        for layer in ([chosen["layer"]] if "layer" in chosen else layers)
        for step in ([chosen["step"]] if "step" in chosen else ["output", "input"])
    ]


def recipe_set(model: Path, part: str) -> tuple[TextSource, TextSource]:
    """The dev or test set of the model's recipe."""
    folders.read_config(model)
    recipe = folders.read_recipe(model)
    files = getattr(recipe.data, part) if isinstance(recipe, TranslationRecipe) else None
    if recipe is None or files is None:
        raise KotyaError(
            f"{model}: its recipe names no {part} set; give two files: kotya evaluate MODEL SOURCE TARGET"
        )
    source, target = files.open(recipe.data_root())
    return source, target
