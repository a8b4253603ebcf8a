"""A small parallel corpus made up by a rule, and a recipe that trains on it in seconds."""

import random
from pathlib import Path
from typing import Any

from kotya import recipe as recipes
from kotya.tasks.translation_recipe import TranslationRecipe

WORDS = {"kot": "cat", "sobaka": "dog", "dom": "house", "sad": "garden", "vidit": "sees", "lyubit": "loves"}


def sentences(count: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(list(WORDS), k=generator.randint(1, 6))) for _ in range(count)]


def write(folder: Path, name: str, lines: list[str]) -> None:
    (folder / f"{name}.src").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    translated = [" ".join(WORDS[word] for word in reversed(line.split())) for line in lines]
    (folder / f"{name}.tgt").write_text("".join(line + "\n" for line in translated), encoding="utf-8")


def content(corpus: Path, **training: Any) -> dict[str, Any]:
    return {
        "task": "translation",
        "data": {
            "root": str(corpus),
            "train": {"source": "train.src", "target": "train.tgt"},
            "dev": {"source": "dev.src", "target": "dev.tgt"},
        },
        "vocabulary": {"size": 300, "dropout": 0.1},
        "model": {
            "size": 16,
            "heads": 2,
            "feed_forward": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "attention_dropout": 0.1,
            "feed_forward_dropout": 0.1,
        },
        "training": {
            "updates": 12,
            "tokens": 256,
            "warmup": 4,
            "evaluate_every": 4,
            "average": 2,
            "precision": "float32",
        }
        | training,
    }


def small_recipe(corpus: Path, **training: Any) -> TranslationRecipe:
    return recipes.parse(content(corpus, **training), "test")
