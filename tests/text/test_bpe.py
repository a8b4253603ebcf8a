"""BPE: the merge table by its definition, dropout against the exact distribution, subword-nmt's codes."""

import os
from collections import Counter
from itertools import pairwise, product
from pathlib import Path
from random import Random

import pytest

from kotya.errors import KotyaError
from kotya.text.bpe import MergeTable, import_codes, learn, learn_steps, read_codes, segment_steps

LECTURE = {"cat": 4, "mat": 5, "mats": 2, "mate": 3, "ate": 3, "eat": 2}
TEXT = [word for word, count in LECTURE.items() for _ in range(count)]


def test_the_lecture_example() -> None:
    steps = list(learn_steps(LECTURE))
    assert steps[0].chosen == ("a", "t")
    assert steps[0].counts[("a", "t")] == sum(LECTURE.values())
    assert [step.chosen for step in steps[:3]] == [("a", "t"), ("m", "at"), ("c", "at")]
    assert all(symbols == (word,) for word, symbols in steps[-1].words.items())
    merges = [step.chosen for step in steps]
    assert segment_steps("mates", merges)[-1] == (("mat", "e"), ("mate", "s"))
    assert [symbols for _, symbols in segment_steps("tame", merges)] == [tuple("tame")]


def test_every_step_merges_a_most_frequent_pair_counted_afresh() -> None:
    words = {"banana": 3, "aaaa": 2, "nab": 5}
    segmented = {word: tuple(word) for word in words}
    for step in learn_steps(words):
        counts: Counter[tuple[str, str]] = Counter()
        for word, symbols in segmented.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        assert step.counts == counts
        assert counts[step.chosen] == max(counts.values())
        for word, symbols in step.words.items():
            assert "".join(symbols) == word
            assert step.chosen not in pairwise(symbols) or len(set(step.chosen)) == 1
        segmented = step.words


def test_learned_merges_follow_the_counts() -> None:
    # Six letters and ▁ are characters, as many pieces may be merges; the first joins the pair in every word.
    tokenizer = learn(lambda: TEXT, 260 + 2 * 7)
    assert set(tokenizer.get_vocab()) >= {"▁", *"acemst", "at"}
    assert tokenizer.encode("tata").tokens == ["▁", "t", "at", "a"]


def test_learning_is_repeatable_and_bounded() -> None:
    text = ["the cat sat on the mat and ate", "a mate sat on the other mat"] * 3
    one, two = learn(lambda: text, 300), learn(lambda: text, 300)
    assert one.to_str() == two.to_str()
    assert one.get_vocab_size() <= 300
    with pytest.raises(KotyaError, match="has no room"):
        learn(lambda: text, 260)
    with pytest.raises(KotyaError, match="no text"):
        learn(lambda: ["", "  "], 300)


def test_of_more_characters_than_there_is_room_for_always_the_same_are_kept() -> None:
    """400 ideographs, each as frequent as the next, and room for 20: the library takes any."""
    text = [" ".join(2 * chr(0x4E00 + (7 * i + j) % 400) for j in range(12)) for i in range(120)]
    learned = [learn(lambda: text, 300) for _ in range(4)]
    assert len({one.to_str() for one in learned}) == 1
    counts = Counter("".join(text).replace(" ", ""))
    most = sorted(counts, key=lambda one: (-counts[one], one))[:19]  # and ▁
    assert {piece for piece in learned[0].get_vocab() if len(piece) == 1 and piece >= "一"} == {*most}


def test_a_word_of_a_million_characters_is_not_learned_from() -> None:
    text = ["a mate sat on the mat"] * 3
    assert learn(lambda: [*text, "ab" * 500_000], 300).to_str() == learn(lambda: text, 300).to_str()


def exact_distribution(table: MergeTable, word: str, p: float) -> dict[tuple[int, ...], float]:
    """Algorithm 1 of Provilkov et al. 2020 by enumerating, at every step, which candidate merges are dropped."""

    def after(ids: tuple[int, ...]) -> dict[tuple[int, ...], float]:
        places = [place for place, pair in enumerate(pairwise(ids)) if pair in table.ranks]
        result: Counter[tuple[int, ...]] = Counter()
        for dropped in product([False, True], repeat=len(places)):
            weight = 1.0
            for one in dropped:
                weight *= p if one else 1 - p
            kept = [place for place, one in zip(places, dropped, strict=True) if not one]
            if not kept:
                result[ids] += weight
                continue
            best = min(table.ranks[ids[place], ids[place + 1]] for place in kept)
            merged, index = [], 0
            while index < len(ids):
                if index in kept and table.ranks[ids[index], ids[index + 1]] == best:
                    merged.append(table.merged[best])
                    index += 2
                else:
                    merged.append(ids[index])
                    index += 1
            for end, share in after(tuple(merged)).items():
                result[end] += weight * share
        return dict(result)

    return after(tuple(table.symbols(word).ids))


@pytest.mark.parametrize("word", ["aaab", "abab"])
def test_dropout_has_the_distribution_of_the_definition(word: str) -> None:
    vocabulary = {piece: i for i, piece in enumerate(["a", "b", "aa", "ab", "aaa", "aab", "abab"])}
    merges = [["a", "a"], ["a", "b"], ["aa", "a"], ["aa", "b"], ["ab", "ab"], ["a", "ab"]]
    table = MergeTable({"vocab": vocabulary, "merges": merges})
    p, draws = 0.3, 20_000
    expected = exact_distribution(table, word, p)
    assert sum(expected.values()) == pytest.approx(1)
    random = Random(1)
    found = Counter(tuple(table.segment(table.symbols(word), p, random)) for _ in range(draws))
    assert set(found) <= set(expected)
    chi_squared = sum((found[ids] - draws * share) ** 2 / (draws * share) for ids, share in expected.items())
    degrees = len(expected) - 1
    assert chi_squared < degrees + 5 * (2 * degrees) ** 0.5  # mean and standard deviation of chi-squared


def test_dropout_none_and_all() -> None:
    table = MergeTable({"vocab": {"a": 0, "aa": 1, "aaa": 2}, "merges": ["a a", "aa a"]})
    random = Random(1)
    assert table.segment(table.symbols("aaaaa"), 0.0, random) == [1, 2]
    assert table.segment(table.symbols("aaaaa"), 1.0, random) == [0] * 5


def test_codes_that_are_no_codes(tmp_path: Path) -> None:
    path = tmp_path / "codes"
    path.write_text("#version: 0.2\na t\nm at t\n")
    with pytest.raises(KotyaError, match="codes:3: two symbols"):
        read_codes(path)
    path.write_text("#version: 0.1\na t\n")
    with pytest.raises(KotyaError, match=r"codes:1: codes of version 0\.1"):
        read_codes(path)
    path.write_text("#version: 0.2\nm at</w>\n")
    with pytest.raises(KotyaError, match="'at</w>' is merged but no earlier merge makes it"):
        import_codes(path, ["mat"])


@pytest.mark.parametrize("side", ["de", "en"])
def test_codes_segment_as_subword_nmt_does(tmp_path: Path, side: str) -> None:
    learn_bpe = pytest.importorskip("subword_nmt.learn_bpe")
    apply_bpe = pytest.importorskip("subword_nmt.apply_bpe")
    if "KOTYA_DATA" not in os.environ:
        pytest.skip("KOTYA_DATA is not set: no real text to compare on")
    lines = (Path(os.environ["KOTYA_DATA"]) / f"multi30k/val.{side}").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "codes"
    with path.open("w", encoding="utf-8") as codes:
        learn_bpe.learn_bpe(iter(lines[:300]), codes, 300)
    with path.open(encoding="utf-8") as codes:
        reference = apply_bpe.BPE(codes)
    tokenizer = import_codes(path, lines)
    for line in lines[300:]:
        pieces = [
            piece if piece.endswith("</w>") else f"{piece}@@" for piece in tokenizer.encode(line).tokens
        ]
        assert " ".join(pieces).replace("</w>", "") == reference.process_line(line)
