"""Key-value recall: pairs scattered over a long text, and at its end a key, of which the value is wanted.

    python benchmarks/recall.py DIR --length 4096           20,000 examples to learn from, 200 and 200 of 4,096 words
    python benchmarks/recall.py DIR --length 16384 --shortest 16384

Those to learn from have 64 to `--length` words, every doubling as likely: what to look for is found in the short ones.

Writes train.tsv, dev.tsv and test.tsv, `value<TAB>text`, for `kotya train --task classification`:

    v3	. . k17 v3 . k4 v9 . . . k31 v3 . ? k17

Keys of a text are all different, and each is as likely to be asked for; a value may stand behind several keys. Pairs
lie anywhere: the answer is half the text away on average. Chance is one in the number of values.
"""

import argparse
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

FILLER, QUERY = ".", "?"


def texts(
    seed: int, *, length: int, shortest: int | None = None, pairs: int = 8, keys: int = 32, values: int = 8
) -> Iterator[tuple[str, str]]:
    """Texts of `length` words and the value that each asks for, without end.

    `shortest`: of lengths from there to `length`, their logarithms evenly drawn.
    Raises ValueError where there are more pairs than keys, or than the shortest text has room for.
    """
    shortest = shortest or length
    if not 1 <= pairs <= min(keys, shortest // 2 - 1):
        raise ValueError(
            f"{pairs} pairs in {shortest} words with {keys} keys: there must be room, and a key for each"
        )
    generator = random.Random(seed)
    while True:
        room = round(shortest * (length / shortest) ** generator.random()) - 2
        chosen = generator.sample(range(keys), pairs)
        held = [generator.randrange(values) for _ in chosen]
        words: list[str] = []
        # a place is a filler or a pair: so many fillers and pairs there are, in any order
        places = sorted(generator.sample(range(room - pairs), pairs))
        before = 0
        for place, key, value in zip(places, chosen, held, strict=True):
            words += [FILLER] * (place - before) + [f"k{key}", f"v{value}"]
            before = place + 1
        words += [FILLER] * (room - len(words))
        asked = generator.randrange(pairs)
        yield " ".join([*words, QUERY, f"k{chosen[asked]}"]), f"v{held[asked]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--examples", nargs=3, type=int, default=[20_000, 200, 200])
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--shortest", type=int, default=64, help="of those to learn from")
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
            shortest=options.shortest if name == "train" else None,
            pairs=options.pairs,
            keys=options.keys,
            values=options.values,
        )
        with open(options.folder / f"{name}.tsv", "w", encoding="utf-8") as file:
            for text, value in islice(drawn, count):
                file.write(f"{value}\t{text}\n")


if __name__ == "__main__":
    main()
