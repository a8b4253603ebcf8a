"""A vocabulary: pieces and ids around one `tokenizers.Tokenizer`, and which ids play pad, unknown, begin and end.

The file is the `tokenizers` library's own format. The parts are its post-processor's named special tokens, so that the
file alone restores them and any program that reads such files appends `end` as we do.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from kotya.errors import KotyaError
from kotya.files import write_text
from kotya.text import bpe, wordpiece
from kotya.text.tokenizer_file import piece_list, plain_text_only, with_roles, without_placeholders

ROLES = ("pad", "unknown", "begin", "end", "mask")
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
    """Pieces and ids. `pad`, `begin`, `end` may coincide; `unknown` is None where nothing is unencodable.

    A vocabulary for encoders has a `mask` too. Its `begin` is what BERT calls [CLS], its `end` [SEP].
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        pad: int,
        unknown: int | None,
        begin: int,
        end: int,
        mask: int | None = None,
        separators: int = 1,
        size: int | None = None,
    ) -> None:
        """`separators`: ends between the two texts of a pair, 2 in RoBERTa. `size`: the ids, where the tokenizer makes
        more pieces than that (an import may); the rest become unknown.

        Raises KotyaError where a part's id is not in the tokenizer.
        """
        self.pad, self.unknown, self.begin, self.end, self.mask = pad, unknown, begin, end, mask
        self.separators = separators
        self._content = with_roles(json.loads(tokenizer.to_str()), self.roles, size, separators)
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
        self._behind: Tokenizer | None = None
        self._samples: dict[str, Samples] = {}
        self._samples_of: tuple[float, int] | None = None

    @classmethod
    def learn(cls, lines: Callable[[], Iterable[str]], size: int) -> "Vocabulary":
        """Learn BPE (see bpe.learn) with pad 0, unknown 1, begin 2, end 3."""
        return cls(bpe.learn(lines, size), pad=0, unknown=1, begin=2, end=3)

    @classmethod
    def learn_masked(cls, lines: Callable[[], Iterable[str]], size: int) -> "Vocabulary":
        """Learn BPE with a mask as its last piece."""
        content = json.loads(bpe.learn(lines, size - 1).to_str())
        pieces = content["model"]["vocab"]
        mask = pieces["<mask>"] = len(pieces)
        return cls(Tokenizer.from_str(json.dumps(content)), pad=0, unknown=1, begin=2, end=3, mask=mask)

    @classmethod
    def learn_wordpiece(
        cls, lines: Callable[[], Iterable[str]], size: int, *, lowercase: bool
    ) -> "Vocabulary":
        """Learn WordPiece (see wordpiece.learn) with pad 0, unknown 1, [CLS] 2, [SEP] 3, mask 4."""
        tokenizer = wordpiece.learn(lines, size, lowercase=lowercase)
        return cls(tokenizer, pad=0, unknown=1, begin=2, end=3, mask=4)

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

    def encode_behind(self, text: str) -> list[int]:
        """The ids of a text that stands right behind something else: no space is put before it."""
        if text[:1].isspace():
            return self.encode(text)
        if self._behind is None:
            content = plain_text_only(_without_prefix(self._content), self._special)
            self._behind = Tokenizer.from_str(json.dumps(content))
        return self._known(self._behind.encode(text, add_special_tokens=False).ids)

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

    def encode_spans(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """The ids of many texts, and for every id the characters of its text it stands for, [start, stop)."""
        encoded = self._engine.encode_batch(list(texts), add_special_tokens=False)
        return [(self._known(one.ids), one.offsets) for one in encoded]

    def wrapped(self, first: Sequence[int], second: Sequence[int] | None = None) -> list[int]:
        """[CLS] A [SEP], or [CLS] A [SEP] B [SEP]: a text or a pair as an encoder reads it."""
        ids = [self.begin, *first, self.end]
        return ids if second is None else [*ids, *[self.end] * (self.separators - 1), *second, self.end]

    def word_starts(self) -> NDArray[np.bool_]:
        """Of every piece whether a word may begin with it; of those in its middle or at its end it is false."""
        model = self._content["model"]
        prefix, mark = model.get("continuing_subword_prefix"), bpe.SPACE
        if prefix:
            return np.array([not piece.startswith(prefix) for piece in self._pieces])
        if any(piece.startswith(BYTE_SPACE) for piece in self._pieces):  # byte-level BPE, as GPT-2's
            mark = BYTE_SPACE
        return np.array([piece.startswith(mark) for piece in self._pieces])

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
BYTE_SPACE = "Ġ"


def _without_prefix(content: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's file whose texts begin without the space that some put before them."""
    cutter = content["pre_tokenizer"] or {}
    parts = [
        {
            **part,
            **({"prepend_scheme": "never"} if part["type"] == "Metaspace" else {}),
            **({"add_prefix_space": False} if part["type"] == "ByteLevel" else {}),
        }
        for part in cutter.get("pretokenizers", [cutter] if cutter else [])
    ]
    return {**content, "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts} if parts else None}


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
        processor = json.loads(text)["post_processor"]
        named = processor["special_tokens"]
        separators = sum("end" in str(one) for one in processor["pair"]) - 1
        parts = {role: int(named[role]["ids"][0]) for role in ROLES if role in named}
        folded = [int(number) for number in named["unknown"]["ids"][1:]] if "unknown" in named else []
    except (ValueError, KeyError, TypeError, IndexError):
        raise KotyaError("not a vocabulary (tokenizer.json) that kotya wrote") from None
    missing = [role for role in ROLES if role not in ("unknown", "mask") and role not in parts]
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
        mask=parts.get("mask"),
        separators=separators,
        size=min(folded, default=None),
    )
