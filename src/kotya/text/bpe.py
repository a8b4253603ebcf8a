"""Byte-pair encoding: the most frequent pair of neighbouring symbols becomes one symbol, again and again.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units". Learned and applied by the
`tokenizers` library; BPE-dropout (Provilkov et al. 2020) and the merge table's step by step are here. A word is what
stands between spaces, marked by ▁ at its front; punctuation marks and digits stand alone ("Männer." is "▁Männer" and
"."). A character that is in no piece becomes its UTF-8 bytes, <0x00> to <0xFF>, so that every text can be encoded, and
decoded without loss.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from kotya.errors import KotyaError

SPACE = "▁"
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
LONGEST_WORD = 500  # characters, for learning; scripts without spaces have whole sentences that are one word
RESERVED = len(SPECIALS) + len(BYTES)
# A mark that the encoding itself uses (▁, or </w> of imported codes) may stand in a text too. There it is written as
# ESCAPE and "b", and ESCAPE itself, a noncharacter of Unicode, as ESCAPE and "a"; decoding undoes both.
ESCAPE = "\U0010ffff"
# What str.split() calls whitespace: Unicode's White_Space and the four ASCII separators.
WHITESPACE = r"[\s\x{1c}-\x{1f}\x{85}]+"

Pair = tuple[str, str]


# ── Learning ──────────────────────────────────────────────────────────────────────────────────────────────


def learn(lines: Callable[[], Iterable[str]], size: int) -> Tokenizer:
    """Learn a vocabulary of at most `size` pieces: 4 special ones, 256 bytes, the characters, and a piece a merge.

    The lines are streamed, twice; only counts are held. Raises KotyaError where there is no text or no room for merges.
    """
    if size <= RESERVED:
        raise KotyaError(
            f"a vocabulary of {size} pieces has no room: {RESERVED} are the special pieces and the bytes"
        )
    tokenizer = lossless_tokenizer({}, [])
    # Rare characters go to bytes before they crowd out merges.
    limit = max((size - RESERVED) // 2, 1)
    trainer = trainers.BpeTrainer(
        vocab_size=size - RESERVED,
        min_frequency=2,
        initial_alphabet=_alphabet(map(without_endless_words, lines()), limit),
        limit_alphabet=limit,
        show_progress=False,
        special_tokens=[],
    )
    tokenizer.train_from_iterator(map(without_endless_words, lines()), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if not model["vocab"]:
        raise KotyaError("there is no text to learn a vocabulary from")
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return lossless_tokenizer(numbered(pieces), [(left, right) for left, right in model["merges"]])


def _alphabet(lines: Iterable[str], limit: int) -> list[str]:
    """The most frequent characters, where there are more than the limit: of equal ones the library takes any."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    kept = sorted(
        (one for one in counts if not one.isspace() and one != SPACE), key=lambda one: (-counts[one], one)
    )
    return [SPACE, *kept[: limit - 1]] if len(kept) >= limit else []


def without_endless_words(line: str) -> str:
    """A line without words too long to be words: learning takes time quadratic in their length, and gains nothing."""
    if len(line) <= LONGEST_WORD:
        return line
    return " ".join(word for word in line.split() if len(word) <= LONGEST_WORD)


def numbered(pieces: Iterable[str]) -> dict[str, int]:
    """Pieces to ids: special pieces first, then bytes, then the pieces given, each once."""
    return {piece: number for number, piece in enumerate(dict.fromkeys((*SPECIALS, *BYTES, *pieces)))}


def lossless_tokenizer(vocabulary: dict[str, int], merges: list[Pair]) -> Tokenizer:
    """A tokenizer whose words have ▁ in front, and which decodes to the very text, runs of whitespace aside."""
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([*whitespace_normalizers(), *escape(SPACE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(SPACE, "always"),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Metaspace(SPACE, "always"), decoders.ByteFallback(), decoders.Fuse(), *unescape(SPACE)]
    )
    return tokenizer


def whitespace_normalizers() -> list[Any]:
    """Every run of whitespace one space, none at the ends."""
    return [normalizers.Replace(Regex(WHITESPACE), " "), normalizers.Strip()]


def escape(mark: str) -> list[Any]:
    """Normalizers after which `mark` stands nowhere in a text."""
    return [normalizers.Replace(ESCAPE, ESCAPE + "a"), normalizers.Replace(mark, ESCAPE + "b")]


def unescape(mark: str) -> list[Any]:
    """Decoders that undo `escape`: in this order no pair is taken for another."""
    return [decoders.Replace(ESCAPE + "b", mark), decoders.Replace(ESCAPE + "a", ESCAPE)]


# ── Codes of subword-nmt ──────────────────────────────────────────────────────────────────────────────────

END_OF_WORD = "</w>"


def read_codes(path: Path) -> list[Pair]:
    """The merges of a codes file of subword-nmt (version 0.2: `#version: 0.2`, then a pair a line, </w> ends a word).

    Raises KotyaError naming the line that is not a pair.
    """
    from kotya.text.corpus import read_lines

    merges: dict[Pair, None] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if number == 1 and line.startswith("#version:"):
            if line.split(":", 1)[1].strip() != "0.2":
                raise KotyaError(
                    f"{path}:1: codes of version{line.split(':', 1)[1]}; learn them again with 0.2 or newer"
                )
            continue
        fields = line.strip("\r\n ").split(" ")
        if len(fields) != 2 or not all(fields):
            raise KotyaError(
                f"{path}:{number}: two symbols separated by a space are expected, not {line[:80]!r}"
            )
        merges.setdefault((fields[0], fields[1]))
    return list(merges)


def import_codes(path: Path, lines: Iterable[str]) -> Tokenizer:
    """A tokenizer that segments as subword-nmt does with these codes; the characters of `lines` become pieces too."""
    merges = read_codes(path)
    characters = Counter(character for line in lines for character in "".join(line.split()))
    alphabet = {symbol.removesuffix(END_OF_WORD) for pair in merges for symbol in pair}
    alphabet = {symbol for symbol in alphabet if len(symbol) == 1} | (set(characters) - {ESCAPE})
    ordered = sorted(alphabet)
    pieces = [*ordered, *(character + END_OF_WORD for character in ordered), *(a + b for a, b in merges)]
    symbols = set(pieces)
    unknown = [symbol for pair in merges for symbol in pair if symbol not in symbols]
    if unknown:
        raise KotyaError(f"{path}: {unknown[0]!r} is merged but no earlier merge makes it")
    tokenizer = Tokenizer(
        models.BPE(vocab=numbered(pieces), merges=merges, end_of_word_suffix=END_OF_WORD, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([*whitespace_normalizers(), *escape(END_OF_WORD)])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Replace(END_OF_WORD, " "),
            decoders.Replace(Regex(r" \z"), ""),
            *unescape(END_OF_WORD),
        ]
    )
    return tokenizer


# ── BPE-dropout ───────────────────────────────────────────────────────────────────────────────────────────


NO_MERGE = 1 << 62  # the rank of a pair that no merge makes


@dataclass(frozen=True)
class Symbols:
    """What a word starts from: the ids of its characters, for each two neighbours the rank of their merge."""

    ids: list[int]
    ranks: list[int]


class MergeTable:
    """The merges of a BPE tokenizer, applied by our own code, so that merges can be dropped with a seed of ours."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        """`model`: the `model` part of a tokenizer's file."""
        self.vocabulary: dict[str, int] = model["vocab"]
        self.suffix: str = model.get("end_of_word_suffix") or ""
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        ids = self.vocabulary
        self.ranks = {(ids[left], ids[right]): rank for rank, (left, right) in enumerate(merges)}
        self.merged = [ids[left + right] for left, right in merges]
        self.unknown: int | None = ids.get(model.get("unk_token") or "")

    def symbols(self, word: str) -> Symbols:
        """The characters of a word, or their bytes where a character is no piece."""
        ids: list[int] = []
        for index, character in enumerate(word):
            symbol = character + (self.suffix if index == len(word) - 1 else "")
            known = self.vocabulary.get(symbol)
            if known is not None:
                ids.append(known)
            else:
                values = [self.vocabulary.get(BYTES[byte], self.unknown) for byte in symbol.encode()]
                ids.extend(value for value in values if value is not None)
        return Symbols(ids, [self.ranks.get(pair, NO_MERGE) for pair in pairwise(ids)])

    def segment(self, word: Symbols, dropout: float, random: Random) -> list[int]:
        """Algorithm 1 of Provilkov et al. 2020, until no merge is left.

        At every step each merge that could be made is dropped with probability `dropout`, and of the rest the one
        learned first is made, wherever it was not dropped.

        Whether one is dropped is drawn only where it could still be the first; the other draws would change nothing.
        """
        ids, ranks = list(word.ids), list(word.ranks)
        while ranks:
            best, places = NO_MERGE, []
            for place, rank in enumerate(ranks):
                if rank > best or rank == NO_MERGE or random.random() < dropout:
                    continue
                if rank < best:
                    best, places = rank, [place]
                elif place > places[-1] + 1:  # of two that overlap, the left one
                    places.append(place)
            if not places:
                break
            for place in reversed(places):
                self.merge(ids, ranks, place, self.merged[best])
        return ids

    def merge(self, ids: list[int], ranks: list[int], place: int, merged: int) -> None:
        """Join the symbols at `place` and after it, in place."""
        ids[place : place + 2] = [merged]
        del ranks[place]
        if place > 0:
            ranks[place - 1] = self.ranks.get((ids[place - 1], merged), NO_MERGE)
        if place < len(ranks):
            ranks[place] = self.ranks.get((merged, ids[place + 1]), NO_MERGE)


# ── The merge table, step by step ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class MergeStep:
    """One step of learning: how often each pair stood in the words, which was merged, and the words after it."""

    counts: dict[Pair, int]
    """Pairs by falling count; of equal ones, the first seen comes first."""
    chosen: Pair
    words: dict[str, tuple[str, ...]]


def learn_steps(words: Mapping[str, int], steps: int | None = None) -> Iterator[MergeStep]:
    """The merge table growing on given word counts, until every word is one symbol, or for so many steps.

    Of pairs that are equally frequent, the one seen first is merged.
    """
    segmented = {word: tuple(word) for word in words}
    while steps is None or steps > 0:
        counts: Counter[Pair] = Counter()
        for word, symbols in segmented.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        if not counts:
            return
        ordered = dict(counts.most_common())  # stable: equal counts stay in the order they were seen
        chosen = next(iter(ordered))
        segmented = {word: merge_pair(symbols, chosen) for word, symbols in segmented.items()}
        yield MergeStep(ordered, chosen, dict(segmented))
        steps = None if steps is None else steps - 1


def merge_pair(symbols: Sequence[str], pair: Pair) -> tuple[str, ...]:
    """Every occurrence of the pair as one symbol, from left to right."""
    result: list[str] = []
    for symbol in symbols:
        # A symbol just made by this merge is longer than the pair's left one, so it is never merged twice.
        if result and (result[-1], symbol) == pair:
            result[-1] += symbol
        else:
            result.append(symbol)
    return tuple(result)


def segment_steps(word: str, merges: Sequence[Pair]) -> list[tuple[Pair | None, tuple[str, ...]]]:
    """How a word is segmented by a merge table: its characters, then each merge that applied and what it left."""
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(merges)))}
    symbols = tuple(word)
    steps: list[tuple[Pair | None, tuple[str, ...]]] = [(None, symbols)]
    while True:
        known = [pair for pair in pairwise(symbols) if pair in ranks]
        if not known:
            return steps
        pair = min(known, key=ranks.__getitem__)
        symbols = merge_pair(symbols, pair)
        steps.append((pair, symbols))
