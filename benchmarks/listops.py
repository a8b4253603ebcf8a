"""ListOps, nested operations on digits, by the rules of Long Range Arena (Nangia and Bowman 2018; Tay et al. 2021).

    python benchmarks/listops.py DIR                        96,000, 2,000 and 2,000 examples of 500 to 2,000 words
    python benchmarks/listops.py DIR --examples 9000 500 500 --length 100 400

Writes train.tsv, dev.tsv and test.tsv, `value<TAB>expression`, for `kotya train --task classification`:

    4	[MAX 2 [MED 1 4 [SM 9 8 ] ] 0 ]

A node is an operation with probability 1/4, but a digit at the greatest depth; an operation has 2 to 10 arguments,
each number of them as likely. MED is the median, halves cut off; SM the sum modulo 10. A length is that in words, and
strictly between the bounds; no expression is drawn twice. The brackets in pairs that are published around every
argument are left out, as the arena's own reader leaves them out.
"""

import argparse
import random
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

OPERATIONS: dict[str, Callable[[list[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(statistics.median(values)),
    "[SM": lambda values: sum(values) % 10,
}
END = "]"
OPERATION_SHARE = 0.25


def draw(generator: random.Random, *, deepest: int, most: int, depth: int = 1) -> tuple[list[str], int]:
    """Words and value of an expression whose operations nest less than `deepest` deep, with up to `most` arguments."""
    if depth >= deepest or generator.random() > OPERATION_SHARE:
        digit = generator.randrange(10)
        return [str(digit)], digit
    arguments = [
        draw(generator, deepest=deepest, most=most, depth=depth + 1)
        for _ in range(generator.randint(2, most))
    ]
    name = generator.choice(list(OPERATIONS))
    words = [name, *(word for argument, _ in arguments for word in argument), END]
    return words, OPERATIONS[name]([value for _, value in arguments])


def expressions(
    seed: int, *, shortest: int = 500, longest: int = 2000, deepest: int = 10, most: int = 10
) -> Iterator[tuple[str, int]]:
    """Different ones without end; their lengths are strictly between the two."""
    generator, seen = random.Random(seed), set[str]()
    while True:
        words, value = draw(generator, deepest=deepest, most=most)
        text = " ".join(words)
        if shortest < len(words) < longest and text not in seen:
            seen.add(text)
            yield text, value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--examples", nargs=3, type=int, default=[96_000, 2_000, 2_000])
    parser.add_argument("--length", nargs=2, type=int, default=[500, 2000], metavar=("ABOVE", "BELOW"))
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--arguments", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    drawn = expressions(
        options.seed,
        shortest=options.length[0],
        longest=options.length[1],
        deepest=options.depth,
        most=options.arguments,
    )
    for name, count in zip(("train", "dev", "test"), options.examples, strict=True):
        with open(options.folder / f"{name}.tsv", "w", encoding="utf-8") as file:
            for _ in range(count):
                text, value = next(drawn)
                file.write(f"{value}\t{text}\n")


if __name__ == "__main__":
    main()
