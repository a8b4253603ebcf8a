"""A recipe for two text files: settings picked from the size of the data, each with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kotya import recipe as recipes
from kotya.tasks.settings import TaskRecipe
from kotya.text.corpus import TextSource, parallel_marked
from kotya.training.flags import put_over


@dataclass(frozen=True)
class Size:
    """Settings that suit corpora of up to so many pairs."""

    pairs: int
    preset: str
    dropout: float
    vocabulary: int
    epochs: int
    learning_rate: float


SIZES = (
    Size(10_000, "transformer-tiny", 0.3, 2_000, 60, 2e-3),
    Size(100_000, "transformer-small", 0.3, 8_000, 30, 1e-3),
    Size(1_000_000, "transformer-small", 0.1, 16_000, 15, 1e-3),
    Size(1 << 62, "transformer-base", 0.1, 32_000, 5, 7e-4),
)
"""Less data: a smaller model and vocabulary, more dropout, more passes (Sennrich and Zhang 2019)."""
TUNING_EPOCHS = 5
"""Of a translator that knows its languages already."""


def run_name(source: Path, target: Path) -> str:
    """What a run on two files is called: by their languages (train.ru.gz and train.en: ru-en), else by their names."""
    names = [path.name.removesuffix(".gz") for path in (source, target)]
    endings = [name.rpartition(".")[2] for name in names]
    if endings[0] != endings[1] and all("." in name for name in names):
        return "-".join(endings)
    return "-".join(name.partition(".")[0] for name in names)


def recipe_for(
    source: Path,
    target: Path,
    dev: tuple[Path, Path] | None,
    overrides: Sequence[str] = (),
    *,
    vocabularies: Sequence[Path] = (),
    base: Path | None = None,
) -> tuple[TaskRecipe, list[str]]:
    """The recipe and, line by line, what was chosen and why. Raises KotyaError for files that are bad input.

    `vocabularies` are files to use instead of learning: one for both languages, or the source's and the target's. A
    `base` is a translator that is tuned to these files.
    """
    count = characters = 0
    for *_, one, two in parallel_marked(TextSource.of(source), TextSource.of(target)):
        if one is not None and two is not None:  # lines that are not UTF-8 the token cache drops and counts
            count += 1
            characters += max(len(one), len(two))
    size = next(size for size in SIZES if count <= size.pairs)
    epochs = size.epochs if base is None else TUNING_EPOCHS
    updates = epochs * characters // 4 // 3500  # roughly: a piece is four characters, a batch 3,500 of them
    pieces = f"{size.vocabulary:,} pieces"
    vocabulary: dict[str, Any] = {"size": size.vocabulary}
    if vocabularies:
        pieces = f"the pieces of {' and '.join(map(str, vocabularies))}"
        keys = ["file"] if len(vocabularies) == 1 else ["source", "target"]
        vocabulary = {key: str(path.absolute()) for key, path in zip(keys, vocabularies, strict=True)}
    content: dict[str, Any] = {
        "task": "translation",
        "data": {
            "root": ".",
            "train": {"source": str(source.absolute()), "target": str(target.absolute())},
            "cleaning": {"max_ratio": 9.0, "max_length": 200, "duplicates": "drop", "invalid": "drop"},
        },
        "vocabulary": {**vocabulary, "dropout": 0.1 if count <= 1_000_000 else 0.0},
        "model": {"preset": size.preset, "dropout": size.dropout},
        "training": {
            "epochs": epochs,
            "learning_rate": size.learning_rate,
            "schedule": "cosine",
            "warmup": max(50, min(4000, updates // 10)),
            "evaluate_every": max(50, min(2000, updates // 20)),
            "average": 5,
            "patience": 10,
        },
    }
    if len(vocabularies) == 2:
        content["model"]["share"] = "output"
    chosen = f"{size.preset} with dropout {size.dropout}, {pieces}, {size.epochs} epochs"
    if base is not None:
        adapting = any(override.startswith("adapt") for override in overrides)
        del content["vocabulary"], content["model"]
        content["base"] = str(base)
        content["training"] |= {
            "learning_rate": 1e-3 if adapting else 2e-4,
            "warmup": 0.1,
            "evaluate_every": max(10, min(2000, updates // 20)),
        }
        chosen = f"{base} is tuned, {TUNING_EPOCHS} epochs"
    if dev is not None:
        content["data"]["dev"] = {"source": str(dev[0].absolute()), "target": str(dev[1].absolute())}
    put_over(content, overrides)
    why = [
        f"{count:,} pairs: {chosen}",
        "pairs over 200 pieces, 9 times as long as their other side, repeated or not UTF-8 are left out",
        "dev set: " + (f"{dev[0]}, {dev[1]}" if dev else "pairs held out from the end of the training files"),
        *(f"set by hand: {override}" for override in overrides),
    ]
    return recipes.parse(content, "the automatic recipe"), why
