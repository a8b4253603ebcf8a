"""Small made-up data of every task over an encoder, each learnable, and recipes that learn it in seconds."""

import random
from pathlib import Path
from typing import Any

from kotya import recipe as recipes
from kotya.tasks.settings import TaskRecipe

GOOD, BAD = ["lovely", "great", "sweet"], ["awful", "dull", "bleak"]
FILLERS = ["film", "story", "music", "scene", "actor", "night"]
NAMES, CITIES = ["Anna", "Boris", "Clara"], ["Bonn", "Oslo", "Perm"]
SMALL = {"size": 32, "heads": 2, "feed_forward": 64, "layers": 1, "max_length": 48}


def lines(rows: list[str]) -> str:
    return "".join(row + "\n" for row in rows)


def classification(count: int, seed: int) -> str:
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        label, words = draw.choice([("good", GOOD), ("bad", BAD)])
        text = [*draw.choices(FILLERS, k=draw.randint(1, 6)), draw.choice(words)]
        draw.shuffle(text)
        rows.append(f"{label}\t{' '.join(text)}")
    return lines(rows)


def similarity(count: int, seed: int) -> str:
    """The share of kind words in the second text, from 0 to 1."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        words = draw.choices(GOOD + BAD, k=4)
        share = sum(word in GOOD for word in words) / 4
        rows.append(f"{share}\t{draw.choice(FILLERS)}\t{' '.join(words)}")
    return lines(rows)


def relevance(queries: int, seed: int) -> str:
    draw = random.Random(seed)
    rows = []
    for number in range(queries):
        query = f"which {draw.choice(FILLERS)}"
        for document in range(4):
            words = [*draw.choices(FILLERS, k=3), draw.choice(GOOD if document == number % 4 else BAD)]
            label = int(document == number % 4)
            rows.append(f"Q{number}\tQ{number}-{document}\t{query}\t{' '.join(words)}\t{label}")
    return lines(rows)


def tagging(count: int, seed: int) -> str:
    draw = random.Random(seed)
    rows: list[str] = []
    for _ in range(count):
        for _ in range(draw.randint(1, 3)):
            rows += [f"{word}\tO" for word in draw.choices(FILLERS, k=draw.randint(0, 2))]
            rows += [f"{draw.choice(NAMES)}\tB-PER", *[f"{draw.choice(NAMES)}\tI-PER"] * draw.randint(0, 1)]
            rows.append(f"{draw.choice(CITIES)}\tB-LOC")
        rows.append("")
    return lines(rows)


def documents(count: int, seed: int) -> str:
    """One word runs through every document."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        topic = draw.choice(NAMES + CITIES)
        texts.append(
            lines([f"{topic} {topic} {draw.choice(FILLERS)} {topic}" for _ in range(draw.randint(3, 8))])
        )
    return "\n".join(texts)


MADE: dict[str, tuple[Any, dict[str, Any]]] = {
    "classification": (classification, {}),
    "regression": (similarity, {"labels": "numbers"}),
    "relevance": (relevance, {}),
    "tagging": (tagging, {}),
    "masked_lm": (documents, {}),
    "language_model": (documents, {}),
}


def content(folder: Path, kind: str, **training: Any) -> dict[str, Any]:
    """A recipe as plain values, its files written to the folder."""
    make, data = MADE[kind]
    (folder / "train").write_text(make(200, 1), encoding="utf-8")
    (folder / "dev").write_text(make(40, 2), encoding="utf-8")
    task = "classification" if kind == "regression" else kind
    text = task in ("masked_lm", "language_model")
    size = {"tokens": 512, "length": 32} if text else {"examples": 16}
    return {
        "task": task,
        "data": {"root": str(folder), "train": "train", "dev": "dev", **data},
        "vocabulary": {"kind": "bpe", "size": 330} if task == "language_model" else {"size": 300},
        "model": dict(SMALL),
        "training": {
            "updates": 400 if kind in ("tagging", "masked_lm") else 100,
            "learning_rate": 0.005,
            "warmup": 10,
            "precision": "float32",
            "evaluate_every": 100,
            **size,
            **training,
        },
    }


def small_task(folder: Path, kind: str, **training: Any) -> TaskRecipe:
    return recipes.parse(content(folder, kind, **training), "test")
