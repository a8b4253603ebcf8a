"""The LSTMs whose search is compared: trained once by kotya on Multi30k de→en, then kept in `.benchmarks/rnns`.

    python benchmarks/rnns.py lstm-mlp

Less than an epoch, enough for nearly all translations to end where they should; the others are why outputs are capped.
"""

import subprocess
import sys
from pathlib import Path

import yaml

import architectures
import corpus

NAMES = ("lstm-mlp", "lstm-bilinear")
"""Not the GRU: JoeyNMT's resets behind the product and kotya's before it, so weights cannot be the same."""


def recipe(name: str) -> dict[str, object]:
    sets = {"train": "train.{}.gz", "dev": "val.{}"}
    files = {
        part: {
            side: f"multi30k/{file.format(language)}"
            for side, language in (("source", "de"), ("target", "en"))
        }
        for part, file in sets.items()
    }
    training = {"updates": 300, "tokens": 1024, "learning_rate": 1e-3, "warmup": 30, "label_smoothing": 0.1}
    return {
        "task": "translation",
        "data": files,
        "vocabulary": {"size": corpus.SIZE},
        "model": architectures.kotya_model(name),
        "training": {**training, "schedule": "cosine", "evaluate_every": 300, "seed": 1},
    }


def folder(name: str) -> Path:
    """Where it is."""
    return corpus.FOLDER / "rnns" / name


def train(name: str) -> None:
    """Train it where it is not there yet; a run that was stopped goes on."""
    place = folder(name)
    if (place / "model.safetensors").exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    path = place.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe(name)), encoding="utf-8")
    command = [sys.executable, "-m", "kotya", "train", path, "--resume", "--output", place]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or NAMES:
        train(chosen)
