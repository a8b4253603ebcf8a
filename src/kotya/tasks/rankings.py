"""Judged documents of queries: their files, what is missing in them, and run files in the form of TREC."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import field_validator

from kotya.errors import KotyaError
from kotya.tasks.encoder_recipe import Columns, EncoderData
from kotya.text.rows import UNUSED, Row, finite, read_rows

COLUMNS = ("query_id", "document_id", "query", "document", "label")


HIGHEST = 1000
"""Of labels, either way: what measures rankings takes memory for every one up to the highest."""


@dataclass(frozen=True)
class Judgement:
    """A document, and how relevant to a query it is; above 0 it is."""

    place: str
    query_id: str
    document_id: str
    query: str
    document: str
    label: int


class RelevanceData(EncoderData):
    """TSV files with a judged document a line."""

    columns: Columns = COLUMNS
    """What they hold in order; `-` for a column not used."""

    @field_validator("columns")
    @classmethod
    def _named(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for name in columns:
            if name not in (*COLUMNS, UNUSED):
                raise ValueError(f"there is no column {name!r}; there are {', '.join(COLUMNS)} and -")
        for name in COLUMNS:
            if columns.count(name) != 1:
                raise ValueError(f"{name} must stand there once: {list(columns)}")
        return columns

    def read(self, path: Path) -> list[Judgement]:
        """The rows of a file. Raises KotyaError naming file and line for bad input."""
        rows = [judgement(row) for row in read_rows(path, self.columns, COLUMNS)]
        seen: set[tuple[str, str]] = set()
        first: dict[str, Judgement] = {}
        for one in rows:
            if (one.query_id, one.document_id) in seen:
                raise KotyaError(
                    f"{one.place}: document {one.document_id} of query {one.query_id} stands there twice"
                )
            seen.add((one.query_id, one.document_id))
            before = first.setdefault(one.query_id, one)
            if before.query != one.query:
                raise KotyaError(f"{one.place}: query {one.query_id} has another text than at {before.place}")
        return rows


def judgement(row: Row) -> Judgement:
    """A line's. Raises KotyaError where its label is no whole number, or none that says how relevant."""
    query_id, document_id, query, document, label = row.values
    number = finite(label)
    if number is None or not number.is_integer():
        raise KotyaError(f"{row.place}: the label {label!r} is no whole number; 1 is relevant, 0 is not")
    if abs(number) > HIGHEST:
        raise KotyaError(
            f"{row.place}: the label {label!r} is more than {HIGHEST}; it says how relevant a document is, 0 not at all"
        )
    return Judgement(row.place, query_id, document_id, query, document, int(number))


def by_query(rows: Sequence[Judgement]) -> dict[str, list[int]]:
    """The numbers of every query's rows."""
    found: dict[str, list[int]] = {}
    for number, one in enumerate(rows):
        found.setdefault(one.query_id, []).append(number)
    return found


def check_judged(rows: Sequence[Judgement], name: str) -> list[str]:
    """What to say of queries without a relevant document. Raises KotyaError where no query has one."""
    queries = by_query(rows)
    without = [some for some in queries.values() if all(rows[i].label <= 0 for i in some)]
    if not without:
        return []
    first = rows[without[0][0]]
    if len(without) == len(queries):
        raise KotyaError(f"{first.place}: no query has a relevant document (a label above 0)")
    return [
        f"{name} data: {len(without):,} of {len(queries):,} queries have no relevant document, the first "
        f"{first.query_id} at {first.place}; "
        + ("the pairwise loss takes none of theirs" if name == "training" else "they count in no metric")
    ]


def trec_run(ranked: Iterable[tuple[str, Sequence[tuple[str, float]]]], tag: str) -> Iterable[str]:
    """Lines of a run file: query, Q0, document, rank from 1, score, tag. Raises KotyaError for a name with blanks."""
    for query, documents in ranked:
        for name in (query, *(document for document, _ in documents)):
            if len(name.split()) != 1:
                raise KotyaError(f"{name!r} is no name for a run file, whose columns are parted by blanks")
        for rank, (document, score) in enumerate(documents, start=1):
            yield f"{query} Q0 {document} {rank} {score:.6f} {tag}"
