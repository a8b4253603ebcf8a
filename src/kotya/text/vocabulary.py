"""A vocabulary: pieces and ids around one `tokenizers.Tokenizer`, and which ids play pad, unknown, begin and end.

The file is the `tokenizers` library's own format. The parts are its post-processor's named special tokens, so that the
file alone restores them and any program that reads such files appends `end` as we do.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Tokenizer

from kotya.errors import KotyaError
from kotya.files import write_text
from kotya.text import bpe

ROLES = ("pad", "unknown", "begin", "end")
SAMPLES = 64  # sampled segmentations of a word under BPE-dropout; an occurrence takes one of them
WORDS = (
    100_000  # words whose samples are kept; sampling is a pure function, so forgetting them changes nothing
)


@dataclass
class Samples:
    """A word under BPE-dropout: what its parts start from, and its segmentations drawn so far."""

    parts: list[bpe.Symbols]
    drawn: list[tuple[int, ...] | None]


class Vocabulary:
    """Pieces and ids. `pad`, `begin`, `end` may coincide; `unknown` is None where nothing is unencodable."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        pad: int,
        unknown: int | None,
        begin: int,
        end: int,
        size: int | None = None,
    ) -> None:
        """`size`: the ids, where the tokenizer makes more pieces than that (an import may); the rest become unknown.

        Raises KotyaError where a part's id is not in the tokenizer.
        """
        self.pad, self.unknown, self.begin, self.end = pad, unknown, begin, end
        self._content = with_roles(json.loads(tokenizer.to_str()), self.roles, size)
        names = piece_list(self._content["model"])
        self._folded = size is not None and size < len(names)
        self._pieces = without_placeholders(names[:size])
        self._ids = {
            name: number for forms in (names[:size], self._pieces) for number, name in enumerate(forms)
        }
        for name, number in self.roles.items():
            if not 0 <= number < len(self._pieces):
                raise KotyaError(
                    f"the vocabulary has {len(self._pieces)} pieces, so {name} cannot be {number}"
                )
        self._special = frozenset(self.roles.values())
        self._engine = Tokenizer.from_str(json.dumps(plain_text_only(self._content, self._special)))
        self._file = json.dumps(self._content, ensure_ascii=False, indent=1)
        self.fingerprint: str = hashlib.blake2b(self._file.encode(), digest_size=16).hexdigest()
        self._table: bpe.MergeTable | None = None
        self._samples: dict[str, Samples] = {}
        self._samples_of: tuple[float, int] | None = None

    @classmethod
    def learn(cls, lines: Iterable[str], size: int) -> "Vocabulary":
        """Learn BPE (see bpe.learn) with pad 0, unknown 1, begin 2, end 3."""
        return cls(bpe.learn(lines, size), pad=0, unknown=1, begin=2, end=3)

    @classmethod
    def from_codes(cls, codes: Path, lines: Iterable[str]) -> "Vocabulary":
        """The codes of subword-nmt (see bpe.import_codes) with pad 0, unknown 1, begin 2, end 3."""
        return cls(bpe.import_codes(codes, lines), pad=0, unknown=1, begin=2, end=3)

    @property
    def roles(self) -> dict[str, int]:
        """The parts and their ids."""
        return {role: number for role in ROLES if (number := getattr(self, role)) is not None}

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer as other programs see it."""
        return Tokenizer.from_str(self._file)

    def __len__(self) -> int:
        """How many pieces there are, special ones included."""
        return len(self._pieces)

    def __reduce__(self) -> Any:
        """Worker processes get the file's text, not the caches."""
        return from_text, (self._file,)

    # ── Text to ids and back ──────────────────────────────────────────────────────────────────────────────

    def encode(self, text: str) -> list[int]:
        """The ids of a text, no special ones added; text that looks like a special piece is text."""
        return self._known(self._engine.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts, faster than one by one."""
        encoded = self._engine.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._known(one.ids) for one in encoded]

    def encode_words(self, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """The ids of many texts, and for every id the word of its text (between spaces) it stands in, from 0.

        Unlike `words` it knows the text: a piece that is unknown stands in a word, and one that normalisation split
        remains one word.
        """
        if self._content["model"].get("end_of_word_suffix"):
            # bytes of a suffix have no place in the text; and here every character has a piece, so `words` is right
            return [(ids, self.words(ids)) for ids in self.encode_batch(texts)]
        encoded = self._engine.encode_batch(list(texts), add_special_tokens=False)
        return [
            (self._known(one.ids), words_at(text, one.offsets))
            for text, one in zip(texts, encoded, strict=True)
        ]

    def _known(self, ids: Iterable[int]) -> list[int]:
        """Pieces past the last id are unknown."""
        if not self._folded or self.unknown is None:
            return list(ids)
        size, unknown = len(self._pieces), self.unknown
        return [number if number < size else unknown for number in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special ids are skipped. Bytes that are no UTF-8 become U+FFFD."""
        return str(
            self._engine.decode([int(i) for i in ids if i not in self._special], skip_special_tokens=False)
        )

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece of every id."""
        return [self._pieces[i] for i in ids]

    def ids(self, pieces: Iterable[str]) -> list[int]:
        """The id of every piece. Raises KotyaError for one that is not in the vocabulary."""
        numbers = []
        for piece in pieces:
            number = self._ids.get(piece)
            if number is None:
                raise KotyaError(f"{piece!r} is no piece of the vocabulary")
            numbers.append(number)
        return numbers

    def words(self, ids: Sequence[int]) -> list[int]:
        """For every id the word (between spaces) it belongs to, from 0; special ids belong to none: -1."""
        suffix = (self._content["model"].get("end_of_word_suffix") or "").encode()
        numbers, word, written = [], 0, b""
        for i in ids:
            if i in self._special:
                numbers.append(-1)
                continue
            piece = self._pieces[i]
            if not suffix and piece.startswith(bpe.SPACE) and written:
                word, written = word + 1, b""  # a space alone opens the word that comes after it
            numbers.append(word)
            text = piece if suffix else piece.removeprefix(bpe.SPACE)
            written += bytes([int(piece[3:5], 16)]) if piece in BYTE_PIECES else text.encode()
            if suffix and written.endswith(suffix):
                word, written = word + 1, b""
        return numbers

    # ── BPE-dropout ───────────────────────────────────────────────────────────────────────────────────────

    def sample(self, text: str, dropout: float, seed: int, epoch: int, example: int) -> list[int]:
        """A segmentation with every merge left out with probability `dropout`: a pure function of the arguments.

        Each word has 64 segmentations drawn by (seed, word), and (seed, epoch, example) says which of them each
        occurrence takes; so a corpus costs little more than looking words up. The tokenizer is applied word by word,
        so it must not join words. Raises KotyaError for a vocabulary that is not BPE.
        """
        if dropout == 0:
            return self.encode(text)
        if self._samples_of != (dropout, seed):
            self._samples, self._samples_of = {}, (dropout, seed)
        words = text.split()
        choices = hashlib.shake_128(b"%d %d %d" % (seed, epoch, example)).digest(len(words))
        samples, ids = self._samples, list[int]()
        for word, choice in zip(words, choices, strict=True):
            known = samples.get(word)
            drawn = known.drawn[choice % SAMPLES] if known is not None else None
            ids.extend(drawn if drawn is not None else self._draw(word, choice % SAMPLES, dropout, seed))
        return ids

    def _draw(self, word: str, choice: int, dropout: float, seed: int) -> tuple[int, ...]:
        """Sample number `choice` of a word, drawn and kept."""
        table = self.merge_table()
        known = self._samples.get(word)
        if known is None:
            if len(self._samples) >= WORDS:
                self._samples.clear()
            known = Samples([table.symbols(part) for part in self._parts(word)], [None] * SAMPLES)
            self._samples[word] = known
        key = hashlib.blake2b(b"%d %d " % (seed, choice) + word.encode(), digest_size=8).digest()
        random = Random(int.from_bytes(key, "little"))
        drawn = tuple(
            self._known(number for part in known.parts for number in table.segment(part, dropout, random))
        )
        if drawn in known.drawn:  # equal samples share one tuple
            drawn = known.drawn[known.drawn.index(drawn)] or drawn
        known.drawn[choice] = drawn
        return drawn

    def _parts(self, word: str) -> list[str]:
        """What merges never cross: the word normalised and cut by the tokenizer's own rules."""
        normalizer, cutter = self._engine.normalizer, self._engine.pre_tokenizer
        normalised = normalizer.normalize_str(word) if normalizer is not None else word
        if cutter is None:
            return [normalised]
        return [part for part, _ in cutter.pre_tokenize_str(normalised)]

    def merge_table(self) -> bpe.MergeTable:
        """The merges as our own code applies them. Raises KotyaError where the tokenizer is not BPE."""
        if self._table is None:
            if self._content["model"]["type"] != "BPE":
                kind = self._content["model"]["type"]
                raise KotyaError(
                    f"BPE-dropout needs a BPE vocabulary; this one is {kind}; set vocabulary.dropout to 0"
                )
            self._table = bpe.MergeTable(self._content["model"])
        return self._table

    # ── File ──────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, path: Path) -> None:
        """Write the file, in the `tokenizers` library's format. Raises as `write_text` does."""
        write_text(path, self._file)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read a file that `save` wrote. Raises KotyaError where it is missing or no vocabulary."""
        if path.is_dir():
            raise KotyaError(f"{path}: a folder, where a vocabulary (tokenizer.json) is expected")
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise KotyaError(f"{path}: there is no such vocabulary") from None
        except UnicodeDecodeError:
            raise KotyaError(
                f"{path}: not a vocabulary (tokenizer.json) that kotya wrote: not UTF-8"
            ) from None
        try:
            return from_text(text)
        except KotyaError as error:
            raise KotyaError(f"{path}: {error}") from None


BYTE_PIECES = frozenset(bpe.BYTES)


def words_at(text: str, spans: Iterable[tuple[int, int]]) -> list[int]:
    """For spans of a text the word, from 0, that each ends in; one that is all space opens the next word."""
    begun = [0, *accumulate(starts_word(text, place) for place in range(len(text)))]
    last = max(begun[-1] - 1, 0)
    numbers = []
    for start, stop in spans:
        while stop > start and text[stop - 1].isspace():
            stop -= 1
        numbers.append(begun[stop] - 1 if stop > start else min(begun[start], last))
    return numbers


def starts_word(text: str, place: int) -> bool:
    """Whether a word of the text begins there."""
    return not text[place].isspace() and (place == 0 or text[place - 1].isspace())


def from_text(text: str) -> Vocabulary:
    """A vocabulary from its file's text. Raises KotyaError where it is none."""
    if text.startswith("#version:"):
        raise KotyaError(
            "codes of subword-nmt; `kotya vocabulary learn TEXT --codes CODES` makes a vocabulary of them"
        )
    try:
        named = json.loads(text)["post_processor"]["special_tokens"]
        parts = {role: int(named[role]["ids"][0]) for role in ROLES if role in named}
        folded = [int(number) for number in named["unknown"]["ids"][1:]] if "unknown" in named else []
    except (ValueError, KeyError, TypeError, IndexError):
        raise KotyaError("not a vocabulary (tokenizer.json) that kotya wrote") from None
    missing = [role for role in ROLES if role != "unknown" and role not in parts]
    if missing:
        raise KotyaError(f"the tokenizer does not say which id is {missing[0]}")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception for every malformed file
        raise KotyaError(f"not a tokenizer that the tokenizers library reads ({error})") from None
    return Vocabulary(
        tokenizer,
        pad=parts["pad"],
        unknown=parts.get("unknown"),
        begin=parts["begin"],
        end=parts["end"],
        size=min(folded, default=None),
    )


def piece_list(model: dict[str, Any]) -> list[str]:
    """Pieces in the order of their ids. Raises KotyaError where ids are not 0, 1, 2, …"""
    if model["type"] == "Unigram":
        return [piece for piece, _ in model["vocab"]]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if model["vocab"] and model["vocab"][pieces[-1]] != len(pieces) - 1:
        raise KotyaError(
            f"the vocabulary has {len(pieces)} pieces but ids up to {model['vocab'][pieces[-1]]}"
        )
    return pieces


def without_placeholders(names: list[str]) -> list[str]:
    """The pieces as they are written: an import puts a space before those of the other language, which no text has.

    The space stays where the rest is another piece's name.
    """
    taken = set(names)
    return [bare if (bare := name.removeprefix(" ")) not in taken else name for name in names]


def with_roles(content: dict[str, Any], roles: dict[str, int], size: int | None) -> dict[str, Any]:
    """The tokenizer's file with the roles named in its post-processor, which appends end, and as special tokens.

    Pieces from `size` on are listed with `unknown`.
    """
    pieces = piece_list(content["model"])
    named: dict[str, dict[str, Any]] = {
        role: {"id": role, "ids": [number], "tokens": [pieces[number] if number < len(pieces) else role]}
        for role, number in roles.items()
    }
    if size is not None and "unknown" in named:
        named["unknown"]["ids"] += range(size, len(pieces))
        named["unknown"]["tokens"] += pieces[size:]
    text = {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 0}}
    end = {"SpecialToken": {"id": "end", "type_id": 0}}
    processor = {
        "type": "TemplateProcessing",
        "single": [text, end],
        "pair": [text, end, other, end],
        "special_tokens": named,
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [
        {"id": number, "content": pieces[number], **flags}
        for number in sorted(set(roles.values()))
        if number < len(pieces)
    ]
    return {
        **content,
        "added_tokens": added,
        "truncation": None,
        "padding": None,
        "post_processor": processor,
    }


def plain_text_only(content: dict[str, Any], special: frozenset[int]) -> dict[str, Any]:
    """The same tokenizer for text alone: no text is ever taken for a special piece.

    Special tokens are not searched for, and a Unigram model, which would find them as ordinary pieces, has their names
    preceded by a space: a space never reaches the model, which sees ▁ instead.
    """
    model = content["model"]
    if model["type"] == "Unigram":
        vocab = [
            [f" {piece}" if number in special else piece, score]
            for number, (piece, score) in enumerate(model["vocab"])
        ]
        model = {**model, "vocab": vocab}
    return {**content, "added_tokens": [], "post_processor": None, "model": model}
