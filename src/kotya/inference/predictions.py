"""What `kotya predict` writes: an object a line of input, whatever the task, in the order of the input, as it comes."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from kotya.errors import KotyaError
from kotya.inference.classifier import Classifier
from kotya.inference.mask_filler import MaskFiller
from kotya.inference.ranker import Ranker
from kotya.inference.tagger import Tagger
from kotya.text.conll import blocks
from kotya.text.rows import UNUSED, pick
from kotya.text.tags import Scheme, encode, entities

Item = TypeVar("Item")
RANKED = ("query_id", "document_id", "query", "document")

_DIGITS = 6


class Noted(Iterable[Item]):
    """Items handed on to be worked on, and kept until their answers come."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.items, self.waiting = items, deque[Item]()

    def __iter__(self) -> Iterator[Item]:
        for item in self.items:
            self.waiting.append(item)
            yield item

    def next(self) -> Item:
        """The one whose answer has come."""
        return self.waiting.popleft()


def place(file: Path | None, number: int) -> str:
    """Where a line of input stands."""
    return f"{file}:{number}" if file is not None else f"standard input, line {number}"


def columns_of(
    lines: Iterable[str], columns: Sequence[str], wanted: Sequence[str], file: Path | None
) -> Iterator[tuple[str, ...]]:
    """The wanted columns of tab-separated lines. Raises KotyaError naming a line that has others, and its file."""
    for name in columns:
        if name not in (*wanted, UNUSED):
            raise KotyaError(
                f"--columns: there is no column {name!r}; there are {', '.join(dict.fromkeys(wanted))}, -"
            )
    for name in wanted:
        if columns.count(name) < wanted.count(name):
            raise KotyaError(
                f"--columns: {','.join(columns)} does not say {wanted.count(name)} times which is {name!r}"
            )
    yield from pick(lines, columns, wanted, partial(place, file))


def classified(
    model: Classifier,
    lines: Iterable[str],
    columns: Sequence[str] | None,
    stride: int | None,
    file: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Labels with probabilities, or numbers. Where the model does not say how many texts it reads, the columns do.

    `file` is where the lines stand, standard input without it.
    """
    wanted = ["text"] * (model.config.texts or (columns or []).count("text") or 1)
    whole = columns is None and len(wanted) == 1  # a text alone may hold tabs
    rows = Noted(
        ((line.strip(),) for line in lines) if whole else columns_of(lines, columns or wanted, wanted, file)
    )
    for one in model.predict(rows, stride=stride):
        texts = rows.next()
        answer: dict[str, Any] = {"text": texts[0]} if len(texts) == 1 else {"texts": list(texts)}
        if one.number is not None:
            yield {**answer, "value": round(one.number, _DIGITS)}
            continue
        shares = {label: round(share, _DIGITS) for label, share in one.probabilities.items()}
        yield {**answer, "label": one.label, "probabilities": shares}


def has_label(answer: dict[str, Any]) -> bool:
    """Whether a text has a column that is one of the labels: probably a labelled file, read as it stands."""
    fields = str(answer.get("text", "")).split("\t")
    return len(fields) > 1 and any(field in answer.get("probabilities", ()) for field in fields)


def may_be_a_pair(model: object, answer: dict[str, Any]) -> bool:
    """Whether a model that may read pairs, as its import does not say, was given a line of two columns as one text."""
    return (
        isinstance(model, Classifier)
        and model.config.texts is None
        and str(answer.get("text", "")).count("\t") == 1
    )


def ranked(
    model: Ranker,
    lines: Iterable[str],
    columns: Sequence[str] | None,
    stride: int | None,
    file: Path | None = None,
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Queries and their documents with scores, best first. `file` is where the lines stand."""
    rows = columns_of(lines, columns or RANKED, RANKED, file)
    quadruples = ((one[0], one[1], one[2], one[3]) for one in rows)
    return model.rankings(quadruples, stride=stride, place=partial(place, file))


def tagged(model: Tagger, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Entities with their places in the text, in characters."""
    texts = Noted(lines)
    for found in model.predict(texts):
        spans = [
            {
                "label": one.label,
                "text": one.text,
                "start": one.start,
                "stop": one.stop,
                "probability": round(one.probability, _DIGITS),
            }
            for one in found
        ]
        yield {"text": texts.next(), "entities": spans}


def conll(model: Tagger, lines: Iterable[str], scheme: Scheme) -> Iterator[str]:
    """CoNLL in, of which the first column is read, and CoNLL out: word, tab, tag; a blank line between sentences."""
    sentences = Noted([row[0] for row in rows] for _, rows in blocks(lines))
    for tags in model.tag(sentences):
        words = sentences.next()
        tags = encode(entities(tags), len(tags), scheme)
        yield "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))


def filled(
    model: MaskFiller, lines: Iterable[str], top: int, file: Path | None = None
) -> Iterator[dict[str, Any]]:
    """The likeliest pieces for every [MASK]. `file` is where the lines stand."""
    texts = Noted(lines)
    for masks in model.predict(texts, top=top, place=partial(place, file)):
        fills = [
            [{"piece": one.piece, "probability": round(one.probability, _DIGITS)} for one in some]
            for some in masks
        ]
        yield {"text": texts.next(), "masks": fills}
