"""Key-value recall: pairs scattered over the first half of a long text, and in the other half keys alone.

    python benchmarks/recall.py DIR --length 4096           8,000 examples to learn from, 200 and 200 of 4,096 words

Writes train.conll, dev.conll and test.conll for `kotya train --task tagging`: of every key that stands alone the label
is its value, of all other words O. In a line here:

    . k17 v3 . . k4 v9 . . . k31 v3 . . | . . k31 . . . k17 . . k4       B-v3, B-v3 and B-v9

Keys of a text are all different, and each is asked for once; a value may stand behind several keys. Pairs and questions
lie anywhere in their half: half the text is between them on average. Chance is one in the number of values; who sees
the values of a text but not their keys can name the one that is there most often, and is right in 3 of 10.

Texts to learn from have 64 to `--length` words, every doubling as likely.
"""

import argparse
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

FILLER, OTHER = ".", "O"
Tagged = list[tuple[str, str]]
"""Words and their labels."""


def texts(
    seed: int, *, length: int, shortest: int | None = None, pairs: int = 8, keys: int = 32, values: int = 8
) -> Iterator[Tagged]:
    """Texts of `length` words, without end.

    `shortest`: of lengths from there to `length`, their logarithms evenly drawn.
    Raises ValueError where there are more pairs than keys, or than half of the shortest text has room for.
    """
    shortest = shortest or length
    if not 1 <= pairs <= min(keys, shortest // 4):
        raise ValueError(
            f"{pairs} pairs in {shortest} words with {keys} keys: there must be room, and a key for each"
        )
    generator = random.Random(seed)
    while True:
        words = round(shortest * (length / shortest) ** generator.random())
        text = [(FILLER, OTHER)] * words
        held = {key: generator.randrange(values) for key in generator.sample(range(keys), pairs)}
        # a place is a filler or a pair: so many fillers and pairs there are, in any order
        places = sorted(generator.sample(range(words // 2 - pairs), pairs))
        for number, (place, (key, value)) in enumerate(zip(places, held.items(), strict=True)):
            text[place + number : place + number + 2] = [(f"k{key}", OTHER), (f"v{value}", OTHER)]
        for place, key in zip(generator.sample(range(words // 2, words), pairs), held, strict=True):
            text[place] = f"k{key}", f"B-v{held[key]}"
        yield text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--examples", nargs=3, type=int, default=[8_000, 200, 200])
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--keys", type=int, default=32)
    parser.add_argument("--values", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for number, (name, count) in enumerate(zip(("train", "dev", "test"), options.examples, strict=True)):
        drawn = texts(
            3 * options.seed + number,
            length=options.length,
            shortest=64 if name == "train" else None,
            pairs=options.pairs,
            keys=options.keys,
            values=options.values,
        )
        with open(options.folder / f"{name}.conll", "w", encoding="utf-8") as file:
            for text in islice(drawn, count):
                file.writelines(f"{word} {label}\n" for word, label in text)
                file.write("\n")


if __name__ == "__main__":
    main()
