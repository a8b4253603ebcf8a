"""`kotya show`: pictures of what is inside a model."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Pictures: position embeddings, attention heads.\n\nExample:\n\n    kotya show positions"
)

Output = Annotated[Path, typer.Option("--output", "-o", help="The picture: a .png, .svg or .pdf.")]


@app.command()
def positions(
    output: Output = Path("positions.png"),
    length: Annotated[int, typer.Option(min=2, max=2000, help="Positions, downwards.")] = 60,
    size: Annotated[int, typer.Option(min=4, max=1024, help="Features, across.")] = 128,
    halves: Annotated[
        bool, typer.Option("--halves", help="All sines first, as MarianMT has them; else in turns.")
    ] = False,
) -> None:
    """Draw the sinusoidal position encoding, as a table and as waves.

    Example:

        kotya show positions --length 100 --size 64 --output positions.svg
    """
    from kotya.attention.positions import sinusoidal
    from kotya.pictures.canvas import check_path
    from kotya.pictures.positions import draw_positions

    check_path(output)
    draw_positions(sinusoidal(length, size, "halves" if halves else "interleaved").numpy(), output)
    print(output)


@app.command()
def heads(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder.")],
    sentence: Annotated[str, typer.Argument(metavar="SENTENCE", help="What it reads.")],
    target: Annotated[
        str | None, typer.Option(help="The translation to look at; by default the model's own.")
    ] = None,
    output: Output = Path("heads.png"),
) -> None:
    """Draw the attention of every layer and head.

    Encoder, decoder and cross-attention on one sentence.
    Rows are queries, columns are keys. Rows of cross-attention are named by the word they choose, rows of the
    decoder by the word they have read.

    Example:

        kotya show heads kotya-demo/model "Я видел котю на мате" --output heads.png
    """
    from kotya import folder
    from kotya.errors import KotyaError
    from kotya.inference.attention import attend
    from kotya.inference.loading import load
    from kotya.pictures.canvas import check_path
    from kotya.pictures.heads import HeadMaps, draw_heads

    check_path(output)
    if not sentence.strip():
        raise KotyaError("the sentence is empty: there is nothing to attend to")
    found = load(model).translate(sentence) if target is None else target
    maps = attend(folder.load(model), sentence, found)
    kinds = [
        HeadMaps("Encoder", maps.source, maps.source, [one.numpy() for one in maps.encoder]),
        HeadMaps("Decoder", maps.inputs, maps.inputs, [one.numpy() for one in maps.decoder]),
        HeadMaps(
            "Decoder on encoder (cross)", maps.outputs, maps.source, [one.numpy() for one in maps.cross]
        ),
    ]
    draw_heads(kinds, output, f"{sentence} → {found}")
    print(output)
