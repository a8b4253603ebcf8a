"""Labelled texts and pairs: their files, and the labels found in them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from kotya.errors import KotyaError
from kotya.tasks.encoder_recipe import Columns, EncoderData
from kotya.text.rows import UNUSED, Row, count_columns, finite, read_rows

LABEL, TEXT = "label", "text"
DEFAULTS = {2: (LABEL, TEXT), 3: (LABEL, TEXT, TEXT)}


@dataclass(frozen=True)
class Example:
    """A text or a pair, and what it was labelled."""

    place: str
    label: str
    texts: tuple[str, ...]


class LabelledData(EncoderData):
    """TSV files: a label and a text, or two that are a pair."""

    columns: Columns | None = None
    """What they hold in order: label, text, and `-` for one not used; text twice is a pair. By default label and
    text, or label, text and text."""
    labels: Literal["classes", "numbers"] = "classes"
    """Whether a label is a name, to be found again, or a number, to be come near to (regression)."""

    @field_validator("columns")
    @classmethod
    def _named(cls, columns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if columns is not None:
            for name in columns:
                if name not in (LABEL, TEXT, UNUSED):
                    raise ValueError(f"there is no column {name!r}; there are label, text and -")
            if columns.count(LABEL) != 1 or columns.count(TEXT) not in (1, 2):
                raise ValueError(f"label must stand there once, text once or twice: {list(columns)}")
        return columns

    def columns_of(self, path: Path, texts: int | None = None) -> tuple[str, ...]:
        """What the recipe says; else for so many texts; else by the first line. Raises KotyaError."""
        return self.columns or (DEFAULTS[1 + texts] if texts else default_columns(path))

    def read(self, path: Path, columns: Sequence[str]) -> list[Example]:
        """The examples of a file. Raises KotyaError naming file and line for bad input."""
        wanted = [LABEL, *[TEXT] * columns.count(TEXT)]
        return [self._example(row) for row in read_rows(path, columns, wanted)]

    def _example(self, row: Row) -> Example:
        label, *texts = row.values
        if self.labels == "numbers" and finite(label) is None:
            raise KotyaError(f"{row.place}: {label!r} is no number, which data.labels=numbers asks for")
        return Example(row.place, label, tuple(texts))


def default_columns(path: Path) -> tuple[str, ...]:
    """By the first line: a label and a text, or a label and two. Raises KotyaError where there are others."""
    count = count_columns(path)
    if count not in DEFAULTS:
        raise KotyaError(
            f"{path}:1: {count} columns (separated by tabs); data.columns says which is the label and which the text, "
            "as [label, text, -]"
        )
    return DEFAULTS[count]


def found_labels(examples: Sequence[Example]) -> list[str]:
    """The labels of training examples, numbers by value. Raises KotyaError where all are the same."""
    found = {example.label for example in examples}
    if len(found) < 2:
        where = examples[0].place.rpartition(":")[0]
        raise KotyaError(
            f"{where}: every example has the label {found.pop()!r}; there is nothing to tell apart"
        )
    return sorted(found, key=lambda label: (0, int(label), label) if label.isdecimal() else (1, 0, label))


def check_labels(examples: Sequence[Example], labels: Sequence[str]) -> None:
    """Raises KotyaError naming file and line where a label is none of those of the training data."""
    known = set(labels)
    for example in examples:
        if example.label not in known:
            raise KotyaError(
                f"{example.place}: the label {example.label!r} stands nowhere in the training data; "
                f"there are {', '.join(labels[:20])}"
            )


def class_weights(
    wanted: Literal["balanced"] | dict[str, float] | None, examples: Sequence[Example], labels: Sequence[str]
) -> list[float] | None:
    """What each class counts: n / (classes · n of the class) where balanced. Raises KotyaError for an unknown label."""
    if wanted is None:
        return None
    if isinstance(wanted, dict):
        for label in wanted:
            if label not in labels:
                raise KotyaError(
                    f"training.class_weights: there is no label {label!r}; there are {', '.join(labels)}"
                )
        return [wanted.get(label, 1.0) for label in labels]
    counts = Counter(example.label for example in examples)
    return [len(examples) / (len(labels) * counts[label]) for label in labels]
