"""Generated data that needs distance: the rules hold, and every answer is what the text says."""

from itertools import islice

import pytest

from benchmarks import listops, recall


def evaluated(text: str) -> tuple[int, int]:
    """Value and depth of an expression, from the right by a stack: an operation finds its arguments there."""
    stack: list[list[int]] = []
    depth = deepest = 0
    for word in reversed(text.split()):
        if word == "]":
            stack.append([])
            depth += 1
            deepest = max(deepest, depth)
            continue
        if word.isdigit():
            value = int(word)
        else:
            arguments = sorted(stack.pop())
            depth -= 1
            assert 2 <= len(arguments) <= 10
            middle = len(arguments) // 2
            median = (arguments[middle] + arguments[~middle]) // 2
            value = {
                "[MIN": arguments[0],
                "[MAX": arguments[-1],
                "[MED": median,
                "[SM": sum(arguments) % 10,
            }[word]
        if not stack:
            return value, deepest
        stack[-1].append(value)
    raise AssertionError("no whole expression")


@pytest.mark.parametrize(("shortest", "longest"), [(500, 2000), (3, 30)])
def test_listops(shortest: int, longest: int) -> None:
    drawn = list(islice(listops.expressions(1, shortest=shortest, longest=longest), 60))
    for text, value in drawn:
        assert shortest < len(text.split()) < longest
        found, depth = evaluated(text)
        assert found == value
        assert depth <= 9  # of ten levels the last has digits only
    assert len({text for text, _ in drawn}) == len(drawn)
    assert len({value for _, value in drawn}) > 5


def test_listops_has_every_operation_as_often_and_no_more_arguments_than_asked() -> None:
    words = [
        w for text, _ in islice(listops.expressions(2, shortest=100, longest=400), 80) for w in text.split()
    ]
    total = words.count("]")
    for name in listops.OPERATIONS:
        assert words.count(name) / total == pytest.approx(0.25, abs=0.03)
    few = islice(listops.expressions(2, shortest=5, longest=60, deepest=3, most=3), 30)
    assert all(len(text.split()) <= 2 + 3 * (2 + 3) for text, _ in few)


@pytest.mark.parametrize(("length", "pairs"), [(4096, 16), (16_384, 64), (16, 4), (7, 1)])
def test_recall(length: int, pairs: int) -> None:
    distances = []
    for text in islice(recall.texts(3, length=length, pairs=pairs, keys=64), 40):
        assert len(text) == length
        words = [word for word, _ in text]
        held = {words[i]: words[i + 1] for i in range(length // 2) if words[i + 1].startswith("v")}
        asked = [i for i, (_, label) in enumerate(text) if label != "O"]
        assert len(held) == len(asked) == pairs
        assert {words[i]: text[i][1] for i in asked} == {key: f"B-{value}" for key, value in held.items()}
        assert min(asked) >= length // 2
        distances += [i - words.index(words[i]) for i in asked]
    assert sum(distances) / len(distances) == pytest.approx(length / 2, rel=0.15)


def test_recall_is_learned_from_texts_of_every_length() -> None:
    lengths = [len(text) for text in islice(recall.texts(5, length=4096, shortest=64), 400)]
    assert min(lengths) < 80
    assert max(lengths) > 3300
    assert sum(length < 512 for length in lengths) / 400 == pytest.approx(0.5, abs=0.1)


def test_a_seed_says_it_all() -> None:
    for make in (
        lambda seed: listops.expressions(seed, shortest=10, longest=50),
        lambda seed: recall.texts(seed, length=50),
    ):
        one, same, other = (list(islice(make(seed), 5)) for seed in (7, 7, 8))
        assert one == same
        assert one != other


def test_more_pairs_than_keys_or_room_are_refused() -> None:
    for options in ({"length": 1000, "pairs": 65}, {"length": 18, "pairs": 5}):
        with pytest.raises(ValueError, match="a key for each"):
            next(recall.texts(1, **options))
