"""Reads a sentencepiece model (Kudo and Richardson 2018) and builds the same segmentation with `tokenizers`.

The file is one protobuf message; the few fields needed are read from the wire format itself:
pieces (1: text 1, score 2, kind 3), trainer (2: algorithm 3), normaliser (3: character map 2, dummy prefix 3,
extra whitespace 4).
"""

import re
import struct
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram

from kotya.errors import KotyaError

SPACE = "▁"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BYTE_PAIRS = 1, 2
BREAK = "\ufdd0"
"""A noncharacter, in no text, that stands for a moment between a letter and its accent (see `_character_map`)."""

Field = int | bytes


@dataclass(frozen=True)
class Piece:
    text: str
    score: float = 0.0
    kind: int = NORMAL


@dataclass(frozen=True)
class SentencePieceModel:
    """What a `.spm` or `.model` file says."""

    pieces: list[Piece]
    algorithm: int
    character_map: bytes
    dummy_prefix: bool
    collapse_spaces: bool

    @classmethod
    def read(cls, path: Path) -> "SentencePieceModel":
        """Raises KotyaError where the file is no sentencepiece model, or is cut off."""
        try:
            fields = list(_fields(path.read_bytes()))
            pieces = [_piece(value) for number, value in fields if number == 1 and isinstance(value, bytes)]
            sections = {
                number: dict(_fields(value))
                for number, value in fields
                if isinstance(value, bytes) and number in (2, 3)
            }
        except (ValueError, IndexError, struct.error) as problem:
            raise KotyaError(f"{path}: not a sentencepiece model, or cut off ({problem})") from None
        if not pieces or 3 not in sections:
            raise KotyaError(f"{path}: not a sentencepiece model: it holds no pieces or no normaliser")
        trainer, normaliser = sections.get(2, {}), sections[3]
        algorithm = trainer.get(3, UNIGRAM)
        if algorithm not in (UNIGRAM, BYTE_PAIRS):
            raise KotyaError(
                f"{path}: a sentencepiece model of words or characters; unigram and BPE are read"
            )
        if trainer.get(24, 0) or not normaliser.get(5, 1):
            raise KotyaError(f"{path}: whitespace as suffix, or unescaped, is not read")
        if any(piece.kind == USER_DEFINED for piece in pieces):
            raise KotyaError(f"{path}: user-defined pieces are not read")
        character_map = normaliser.get(2, b"")
        assert isinstance(algorithm, int)
        assert isinstance(character_map, bytes)
        return cls(pieces, algorithm, character_map, bool(normaliser.get(3, 1)), bool(normaliser.get(4, 1)))


def _fields(message: bytes) -> Iterator[tuple[int, Field]]:
    """Field numbers and raw values of a protobuf message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == 2:
            size, position = _varint(message, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"byte {position} makes no sense")
        if position + size > len(message):
            raise ValueError(f"it ends at byte {len(message)} inside a field")
        yield number, message[position : position + size]
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A number in base 128, lowest digits first, and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position


def _piece(message: bytes) -> Piece:
    fields = dict(_fields(message))
    text, score, kind = fields[1], fields.get(2, b"\0\0\0\0"), fields.get(3, NORMAL)
    if not (isinstance(text, bytes) and isinstance(score, bytes) and isinstance(kind, int)):
        raise ValueError("a piece without text")
    return Piece(text.decode("utf-8"), struct.unpack("<f", score)[0], kind)


def build_tokenizer(
    model: SentencePieceModel, ids: Mapping[str, int], *, special: Container[int], unknown: str
) -> Tokenizer:
    """A tokenizer that cuts as `model` does and numbers as `ids` does.

    Pieces of `ids` that the model does not produce (the other language's) stand under a name that no text has, with a
    space in front, and are decoded without it; `special` ids keep their names, for whoever encodes must not find them
    in a text. Pieces of the model that `ids` lacks come after the last id: they must be read as unknown. A language
    code at the start of a text, such as `>>fra<<`, is one piece.
    """
    known = {piece.text: piece.score for piece in model.pieces if piece.kind in (NORMAL, BYTE)}
    codes = [text for text in ids if text.startswith(">>") and text.endswith("<<")]
    names = {_name(text, number, known, codes, special): number for text, number in ids.items()}
    for text in known:
        names.setdefault(text, len(names))
    bytes_too = any(piece.kind == BYTE for piece in model.pieces)
    if model.algorithm == BYTE_PAIRS:
        tokenizer = Tokenizer(_byte_pairs(known, names, unknown, bytes_too, whole_words=bool(codes)))
    else:
        tokenizer = Tokenizer(_unigram(known, names, ids[unknown], bytes_too))
    tokenizer.normalizer = _normalizer(model)
    if codes:
        code = "|".join(map(re.escape, codes))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rf"\A{SPACE}?({code})"), "isolated")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(r"\A "), ""),
            *([decoders.ByteFallback()] if bytes_too else []),
            decoders.Fuse(),
            decoders.Replace(SPACE, " "),
            decoders.Strip(" ", 1 if model.dummy_prefix else 0, 0),
        ]
    )
    return tokenizer


def _name(
    text: str, number: int, known: Container[str], codes: Container[str], special: Container[int]
) -> str:
    """What a piece of the ids is called in the tokenizer."""
    if text in codes:
        return SPACE + text
    return text if text in known or number in special else f" {text}"


def _byte_pairs(
    known: Mapping[str, float], names: Mapping[str, int], unknown: str, bytes_too: bool, *, whole_words: bool
) -> BPE:
    """Sentencepiece joins any two neighbours whose union is a piece, best score first: every such pair is a merge."""
    merges = [
        (score, text[:cut], text[cut:])
        for text, score in known.items()
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]
    merges.sort(key=lambda merge: -merge[0])
    pairs = [(left, right) for _, left, right in merges]
    return BPE(
        dict(names),
        pairs,
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=bytes_too,
        ignore_merges=whole_words,
    )


def _unigram(known: Mapping[str, float], names: Mapping[str, int], unknown: int, bytes_too: bool) -> Unigram:
    """Placeholders never match; their score is the best one, for the worst one prices the unknown."""
    best = max(known.values())
    pieces = sorted(names, key=names.__getitem__)
    return Unigram([(piece, known.get(piece, best)) for piece in pieces], unknown, bytes_too)


def _normalizer(model: SentencePieceModel) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if model.character_map:
        steps += _character_map(model.character_map)
    if model.collapse_spaces:
        steps += [
            normalizers.Replace(Regex(rf"\A +|[ {SPACE}]+\z"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    if model.dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])


def _character_map(character_map: bytes) -> list[normalizers.Normalizer]:
    """Sentencepiece's own table of replacements (NFKC with additions), its longest entry at every position.

    `tokenizers` takes the shortest entry instead, within a letter and its accents: Vietnamese and Korean letters would
    stay in pieces, and the accent of "№́" would be lost. Letters are composed before it, and a break keeps what is left
    of the accents apart. Only an accent on a wide letter ("Ａ́") comes out otherwise than there.
    """
    table = normalizers.Precompiled(character_map)
    composing = table.normalize_str("e\u0301") == "é"
    plane = (chr(code) for code in range(1, 0x10000) if not 0xD800 <= code < 0xE000)
    mapped = "".join(rf"\x{{{ord(letter):x}}}" for letter in plane if table.normalize_str(letter) != letter)
    if not mapped:
        return [table]
    joining = r"[\p{M}\x{200c}\x{200d}\x{e33}\x{eb3}]"
    return [
        *([normalizers.NFC()] if composing else []),
        normalizers.Replace(Regex(rf"(?={joining})(?<=[{mapped}])"), BREAK),
        table,
        normalizers.Replace(BREAK, ""),
    ]
