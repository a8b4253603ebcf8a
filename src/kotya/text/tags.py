"""Named entities as a tag a word, and back: IOB1, IOB2 and IOBES (Ramshaw and Marcus 1995; Tjong Kim Sang 2002).

words   Alex  Smith  met  Anna  Bonn
IOB2    B-PER I-PER  O    B-PER B-LOC     every entity begins with B
IOB1    I-PER I-PER  O    I-PER I-LOC     B only where an entity of the same type comes right before
IOBES   B-PER E-PER  O    S-PER S-LOC     E ends, S stands alone
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from kotya.errors import KotyaError

Scheme = Literal["iob1", "iob2", "iobes"]
OUTSIDE = "O"
LETTERS = {"iob1": "BI", "iob2": "BI", "iobes": "BIES"}


class Entity(NamedTuple):
    """Words [start, stop) that name something."""

    start: int
    stop: int
    label: str


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence, whatever the scheme, as the CoNLL scorer reads them: an I after nothing begins."""
    found: list[Entity] = []
    start: int | None = None
    label = ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        letter, _, kind = tag.partition("-")
        if start is not None and (letter in ("O", "B", "S") or kind != label or tags[place - 1][0] in "ES"):
            found.append(Entity(start, place, label))
            start = None
        if start is None and letter != OUTSIDE:
            start, label = place, kind
    return found


def check_entities(labels: Sequence[str]) -> None:
    """Raises KotyaError for a label that is no tag of an entity in any scheme."""
    for one in labels:
        if one != OUTSIDE and (one[:2] not in ("B-", "I-", "E-", "S-") or not one[2:]):
            raise KotyaError(
                f"{one!r} is no tag of entities (O, B-TYPE, I-TYPE …): this model names something else"
            )


def encode(found: Sequence[Entity], length: int, scheme: Scheme) -> list[str]:
    """The tags of a sentence of so many words. Entities do not overlap."""
    tags = [OUTSIDE] * length
    before: Entity | None = None
    for one in sorted(found, key=lambda entity: entity.start):
        inner = range(one.start, one.stop)
        tags[one.start : one.stop] = [f"I-{one.label}" for _ in inner]
        touches = before is not None and before.stop == one.start and before.label == one.label
        if scheme != "iob1" or touches:
            tags[one.start] = f"B-{one.label}"
        if scheme == "iobes":
            tags[one.stop - 1] = f"{'E' if len(inner) > 1 else 'S'}-{one.label}"
        before = one
    return tags


def forbidden(tags: Sequence[str], scheme: Scheme) -> tuple[int, str] | None:
    """The first word whose tag the scheme does not allow, and why; None where all are well."""
    for place, tag in enumerate(tags):
        letter, label = _parts(tag)
        before = tags[place - 1] if place else OUTSIDE
        goes_on = _parts(before) in (("B", label), ("I", label))
        if tag != OUTSIDE and (letter not in LETTERS[scheme] or not label):
            letters = ", ".join(f"{one}-TYPE" for one in LETTERS[scheme])
            return place, f"{tag!r} is no tag of {scheme.upper()} (O, {letters})"
        if scheme == "iob2" and letter == "I" and not goes_on:
            return place, f"{tag!r} after {before!r}: in IOB2 an entity begins with B"
        if scheme == "iob1" and letter == "B" and not goes_on:
            return place, f"{tag!r} after {before!r}: in IOB1 B only parts two neighbours of one type"
        if scheme == "iobes" and (letter in ("I", "E")) != goes_on:
            return place, f"{tag!r} after {before!r}: in IOBES an entity is S, or B, then I, then E"
        if scheme == "iobes" and before[0] in "BI" and not goes_on:
            return place, f"{tag!r} after {before!r}: in IOBES an entity ends with E or S"
    if scheme == "iobes" and tags and tags[-1][0] in "BI":
        return len(tags) - 1, f"{tags[-1]!r} ends the sentence: in IOBES an entity ends with E or S"
    return None


def _parts(tag: str) -> tuple[str, str]:
    letter, _, label = tag.partition("-")
    return letter, label
