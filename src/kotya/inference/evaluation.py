"""A translator measured on a test set: BLEU and chrF with their signatures; the error rate of its word alignments."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kotya import folder as folders
from kotya import recipe as recipes
from kotya.attention.reading import Reading, cross_layers
from kotya.errors import KotyaError
from kotya.inference.alignment import symmetrized
from kotya.inference.loading import check_adapters, checked_precision
from kotya.inference.translator import Choice, Translator
from kotya.metrics import AlignmentScores, Score, alignment_scores, translation_scores
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.encoder_recipe import EncoderFolder, EncoderRecipe
from kotya.tasks.language_model import LanguageModelRecipe
from kotya.tasks.masked_lm import MaskedLMFolder
from kotya.tasks.settings import FolderConfig, Known, TaskRecipe
from kotya.tasks.task import Task
from kotya.tasks.translation_recipe import TranslationRecipe
from kotya.text.alignments import Gold, check_inside, read_gold
from kotya.text.cache import cache_folder
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


@dataclass(frozen=True)
class TaskReport:
    """What `kotya evaluate` says of a model that is no translator."""

    file: str
    metrics: dict[str, float]
    seconds: float


def evaluate_task(
    path: Path,
    data: Path | None,
    part: str,
    say: Callable[[str], None],
    *,
    base: Path | None = None,
    device: str,
    precision: str,
) -> TaskReport:
    """The task's own metrics on a file, or on the dev or test set of the model's recipe. Raises KotyaError.

    A model without a recipe, imported or merged, reads a file as its task does where nobody says otherwise.
    """
    loaded = folders.load(path, device, checked_precision(precision), base=base)
    check_adapters([loaded.config], base, path)
    recipe = loaded.recipe or by_default(loaded.config, path)
    assert isinstance(recipe, EncoderRecipe | LanguageModelRecipe)
    named = getattr(recipe.data, part)
    if data is None and named is None:
        raise KotyaError(
            f"{path}: no recipe of its names a {part} set; give a file: kotya evaluate MODEL DATA"
        )
    file = data or recipe.data_root() / named
    known = Known(loaded.config, loaded.vocabularies)
    task: Task = recipe.measured_on(file, known, cache_folder(), say)
    began = time.perf_counter()
    evaluation = task.evaluate(loaded.model, nullcontext)
    return TaskReport(str(file), evaluation.metrics, time.perf_counter() - began)


def by_default(config: FolderConfig, path: Path) -> TaskRecipe:
    """How a task reads its data where nobody says otherwise. Raises KotyaError for a bare encoder."""
    if isinstance(config, EncoderFolder):
        raise KotyaError(
            f"{path}: an encoder without a head, of which nothing can be measured; fine-tune it first"
        )
    data: dict[str, Any] = {"train": "none"}
    if isinstance(config, ClassificationFolder) and not config.labels:
        data["labels"] = "numbers"
    training: dict[str, Any] = {"epochs": 1}
    if isinstance(config, MaskedLMFolder):
        training["nsp"] = float(config.next_sentence)
    content = {"task": config.task, "base": str(path), "data": data, "training": training}
    return recipes.parse(content, str(path))


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
            f"{model}: its recipe names no {part} set; name a text and its reference translation by hand"
        )
    source, target = files.open(recipe.data_root())
    return source, target
