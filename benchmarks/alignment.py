"""Alignment error rate on the English–Czech gold set: statistical aligners and attention, on the very same joint text.

    .venv/bin/python benchmarks/alignment.py runs/en-cs/bahdanau:runs/cs-en/bahdanau --fast-align PROGRAM

The joint text is that of `recipes/en-cs`: 12,500 mixed pairs, among which are the 800 gold sentences without their
alignments, and 29,000 image captions. A model is given with the one that translates the other way.
No index has fast_align (github.com/clab/fast_align); one that was built from its source is named.

    .venv/bin/python benchmarks/alignment.py --teach FOLDER

writes what eflomal found in that text, symmetrised, for models to be taught: FOLDER/en-cs.0 and .1 are the `alignments`
of the two corpora of `recipes/en-cs`, FOLDER/cs-en.0 and .1 the same links turned round, of `recipes/cs-en`.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import machine
import peers
from kotya import recipe as recipes
from kotya.inference.evaluation import evaluate_alignments
from kotya.inference.loading import load
from kotya.metrics import AlignmentScores, alignment_scores
from kotya.text import alignments
from kotya.text.alignments import Links
from kotya.text.corpus import TextSource, read_parallel
from kotya.text.symmetrization import symmetrize

RECIPE = recipes.read(Path(__file__).parent.parent / "recipes/en-cs/bahdanau.yaml")
GOLD = RECIPE.data_root() / "word-align/en-cs/dev"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL:REVERSE")
    parser.add_argument("--fast-align", type=Path, metavar="PROGRAM")
    parser.add_argument("--teach", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    pairs = [tuple(map(Path, one.split(":"))) for one in arguments.models]
    print(machine.describe())
    corpora = [list(read_parallel(*files.open(RECIPE.data_root()))) for files in RECIPE.data.train]
    joint = [pair for corpus in corpora for pair in corpus]
    found = eflomal(joint)
    if arguments.teach is not None:
        teach([len(corpus) for corpus in corpora], found["eflomal"], arguments.teach)
        return
    if arguments.fast_align is not None:
        found |= fast_align(joint, arguments.fast_align)
    place = {pair: number for number, pair in enumerate(joint)}
    gold = [place[pair] for pair in read_parallel(*gold_files())]
    print(f"{'':24}{'layer':>6}{'step':>8}{'AER':>8}{'precision':>11}{'recall':>8}")
    for name, links in found.items():
        report(name, [links[number] for number in gold])
    for model, reverse in pairs:
        for reading, scores in evaluate_alignments(load(model), load(reverse), *gold_files(), GOLD, {}).rows:
            row(f"{model.parent.name}/{model.name}", str(reading.layer), reading.step, scores)


def eflomal(pairs: Sequence[tuple[str, str]]) -> dict[str, list[Links]]:
    """Its links: each direction, and both symmetrised."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("en", "cs", "forward", "reverse")]
        for side, path in enumerate(files[:2]):
            path.write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
        script = Path(__file__).with_name("align_eflomal.py")
        began = time.perf_counter()
        subprocess.run([peers.install(), script, *files], check=True)
        print(f"eflomal took {time.perf_counter() - began:.0f} s for {len(pairs):,} pairs")
        forward, reverse = (list(alignments.read(path)) for path in files[2:])
    return directions("eflomal", forward, reverse)


def fast_align(pairs: Sequence[tuple[str, str]], program: Path) -> dict[str, list[Links]]:
    """The same of fast_align (Dyer, Chahuneau and Smith 2013), with the options that its authors recommend."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        text.write_text("".join(f"{source} ||| {target}\n" for source, target in pairs), encoding="utf-8")
        began = time.perf_counter()
        sides = []
        for name, turned in (("forward", []), ("reverse", ["-r"])):
            path = Path(folder) / name
            with path.open("w", encoding="utf-8") as file:
                command = [program, "-i", text, "-d", "-o", "-v", *turned]
                subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
            sides.append(list(alignments.read(path)))
        print(f"fast_align took {time.perf_counter() - began:.0f} s")
    return directions("fast_align", *sides)


def directions(name: str, forward: list[Links], reverse: list[Links]) -> dict[str, list[Links]]:
    """Each direction, and both symmetrised."""
    both = [symmetrize(one, other) for one, other in zip(forward, reverse, strict=True)]
    return {f"{name}, forward": forward, f"{name}, reverse": reverse, name: both}


def teach(sizes: Sequence[int], links: Sequence[Links], folder: Path) -> None:
    """Write links, corpus by corpus, as recipes of both directions read them."""
    folder.mkdir(parents=True, exist_ok=True)
    rest = iter(links)
    for number, size in enumerate(sizes):
        corpus = list(islice(rest, size))
        turned = [frozenset((target, source) for source, target in one) for one in corpus]
        for direction, lines in (("en-cs", corpus), ("cs-en", turned)):
            text = "".join(alignments.render(one) + "\n" for one in lines)
            (folder / f"{direction}.{number}").write_text(text, encoding="utf-8")


def gold_files() -> tuple[TextSource, TextSource]:
    return TextSource.of(GOLD.with_name("dev.en")), TextSource.of(GOLD.with_name("dev.cs"))


def report(name: str, links: Sequence[Links]) -> None:
    gold = alignments.read_gold(GOLD)
    row(name, "", "", alignment_scores(links, [one.sure for one in gold], [one.possible for one in gold]))


def row(name: str, layer: str, step: str, scores: AlignmentScores) -> None:
    numbers = f"{scores.aer:8.1f}{scores.precision:11.1f}{scores.recall:8.1f}"
    print(f"{name:24}{layer:>6}{step:>8}{numbers}", flush=True)


if __name__ == "__main__":
    main()
