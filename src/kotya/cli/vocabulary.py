"""`kotya vocabulary`: learn byte-pair encoding, apply it, undo it, watch it merge."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kotya.cli.options import finite
from kotya.errors import KotyaError

if TYPE_CHECKING:
    from kotya.text.bpe import MergeStep, Pair

app = typer.Typer(
    help="Byte-pair encoding: learn it, apply it, watch it merge.\n\n"
    "Example: kotya vocabulary merges cat=4 mat=5 mats=2 mate=3 ate=3 eat=2 --word mates",
    no_args_is_help=True,
)

VocabularyPath = Annotated[Path, typer.Argument(help="A tokenizer.json that kotya wrote, or a model folder.")]
Input = Annotated[
    Path | None, typer.Argument(help="A text file (.gz too); standard input where none is given.")
]


@app.command()
def learn(
    files: Annotated[list[Path], typer.Argument(help="Text files, one sentence a line (.gz too).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path(
        "tokenizer.json"
    ),
    size: Annotated[
        int | None,
        typer.Option(help="Pieces, the 260 special pieces and bytes included; 8000 without it."),
    ] = None,
    codes: Annotated[
        Path | None,
        typer.Option(help="Take the merges from a codes file of subword-nmt; the files give characters."),
    ] = None,
) -> None:
    """Learn a vocabulary from text files; from both languages' files it is a joint one.

    Examples:

        kotya vocabulary learn train.de.gz train.en.gz --size 8000 -o tokenizer.json
        kotya vocabulary learn train.de --codes codes.de -o source.tokenizer.json
    """
    from kotya.errors import KotyaError
    from kotya.files import check_file
    from kotya.text.corpus import TextSource
    from kotya.text.vocabulary import Vocabulary

    if codes is not None and size is not None:
        raise KotyaError("--size is of merges that are learned; --codes brings its own")
    check_file(output)
    text = TextSource.of(files)
    if codes is not None:
        vocabulary = Vocabulary.from_codes(codes, text.lines())
    else:
        # a pipe can be read once alone
        held = None if all(path.is_file() for path in files) else list(text.lines())
        vocabulary = Vocabulary.learn(
            text.lines if held is None else lambda: held, 8000 if size is None else size
        )
    vocabulary.save(output)
    typer.echo(f"{len(vocabulary):,} pieces written to {output}", err=True)


@app.command()
def encode(
    vocabulary: VocabularyPath,
    file: Input = None,
    ids: Annotated[bool, typer.Option("--ids", help="Write ids, not pieces.")] = False,
    dropout: Annotated[
        float, typer.Option(min=0, max=1, callback=finite, help="BPE-dropout, as training sees text.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of BPE-dropout.")] = 1,
) -> None:
    """Write the pieces of every line.

    Examples:

        echo "Zwei junge Männer." | kotya vocabulary encode tokenizer.json
        kotya vocabulary encode runs/de-en test.de --dropout 0.1
    """
    from kotya.text.corpus import read_input
    from kotya.text.vocabularies import open_vocabulary

    opened = open_vocabulary(vocabulary, "source")
    for number, line in enumerate(read_input(file)):
        encoded = opened.sample(line, dropout, seed, epoch=0, example=number)
        print(*(encoded if ids else opened.pieces(encoded)), flush=True)


@app.command()
def decode(
    vocabulary: VocabularyPath,
    file: Input = None,
    ids: Annotated[bool, typer.Option("--ids", help="The lines are ids, not pieces.")] = False,
) -> None:
    """Write the text that pieces came from.

    Example:

        kotya vocabulary encode tokenizer.json test.de | kotya vocabulary decode tokenizer.json
    """
    from kotya.text.corpus import read_input
    from kotya.text.vocabularies import open_vocabulary

    opened = open_vocabulary(vocabulary, "target")
    for number, line in enumerate(read_input(file), start=1):
        try:
            numbers = read_ids(line, len(opened)) if ids else opened.ids(line.split())
        except KotyaError as error:
            raise KotyaError(f"{file or 'standard input'}:{number}: {error}") from None
        print(opened.decode(numbers), flush=True)


@app.command()
def merges(
    words: Annotated[
        list[str], typer.Argument(help="Words and their counts: cat=4 mat=5 …", metavar="WORD=COUNT…")
    ],
    word: Annotated[str | None, typer.Option(help="Show how this word is segmented by the merges.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many merges.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it too: a .png, .svg or .pdf.")] = None,
) -> None:
    """Show byte-pair encoding being learned on a few words, merge by merge.

    Of pairs that are equally frequent, the one seen first is merged.

    Example:

        kotya vocabulary merges cat=4 mat=5 mats=2 mate=3 ate=3 eat=2 --word mates --picture merges.png
    """
    from kotya.pictures.canvas import check_path
    from kotya.text.bpe import learn_steps, segment_steps

    if picture:
        check_path(picture)
    counts = read_counts(words)
    table = list(learn_steps(counts, steps))
    segmentation = segment_steps(word, [step.chosen for step in table]) if word else []
    print_merges(counts, table, segmentation)
    if picture:
        from kotya.pictures.merges import draw_merges

        draw_merges(counts, table, segmentation, picture)
        typer.echo(f"picture: {picture}", err=True)


def print_merges(
    counts: dict[str, int],
    table: "list[MergeStep]",
    segmentation: "list[tuple[Pair | None, tuple[str, ...]]]",
) -> None:
    """The steps as tables on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.width = max(console.width, 100) if not console.is_terminal else console.width
    learning = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("step", "merge", "count", "runners-up", "words"):
        learning.add_column(name, justify="right" if name in ("step", "count") else "left")
    start = "  ".join(f"{'·'.join(word)} ×{count}" for word, count in counts.items())
    learning.add_row("0", "", "", "", start)
    for number, step in enumerate(table, start=1):
        others = ", ".join(
            f"{left}+{right} {count}" for (left, right), count in list(step.counts.items())[1:4]
        )
        left, right = step.chosen
        segmented = "  ".join("·".join(symbols) for symbols in step.words.values())
        learning.add_row(str(number), f"{left}+{right}", str(step.counts[step.chosen]), others, segmented)
    console.print(learning)
    if segmentation:
        order = {step.chosen: number for number, step in enumerate(table, start=1)}
        applied = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("merge", "", "".join(segmentation[0][1])):
            applied.add_column(name)
        for pair, symbols in segmentation:
            applied.add_row(
                str(order[pair]) if pair else "", "+".join(pair) if pair else "characters", "·".join(symbols)
            )
        console.print(applied)


def read_counts(words: list[str]) -> dict[str, int]:
    """`cat=4` and so on as counts. Raises KotyaError for what is not of that form."""
    counts: dict[str, int] = {}
    for item in words:
        word, _, count = item.rpartition("=")
        if not word or not count.isdecimal() or int(count) == 0:
            raise KotyaError(f"{item!r}: a word and how often it occurs is expected, like cat=4")
        counts[word] = counts.get(word, 0) + int(count)
    return counts


def read_ids(line: str, size: int) -> list[int]:
    """Numbers separated by spaces. Raises KotyaError for one that is not an id."""
    for item in line.split():
        if not item.isdecimal() or int(item) >= size:
            raise KotyaError(f"{item!r} is no id; ids are 0 to {size - 1}")
    return [int(item) for item in line.split()]
