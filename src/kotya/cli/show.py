"""`kotya show`: pictures of what is inside a model."""

from pathlib import Path
from typing import Annotated

import typer

from kotya.cli.options import AllowCode

app = typer.Typer(
    help="Pictures: positions, attention heads, beam trees, what length does, what a BERT reads, who attends to whom."
    "\n\nExample:\n\n    kotya show positions"
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
    second: Annotated[
        str | None, typer.Argument(metavar="[SECOND]", help="The second text of a pair, to a BERT.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The translation to look at; by default the translator's own.")
    ] = None,
    output: Output = Path("heads.png"),
    allow_code: AllowCode = False,
) -> None:
    """Draw the attention of every layer and head.

    Of a translator encoder, decoder and cross-attention, of a BERT or a language model all there is. Rows are queries,
    columns are keys. Rows of cross-attention are named by the word they choose, rows of a decoder by the word they have
    read.

    Example:

        kotya show heads kotya-demo/model "Я видел котю на мате" --output heads.png
    """
    from kotya import folder
    from kotya.attention.choices import LinformerConfig
    from kotya.errors import KotyaError
    from kotya.inference.attention import attend, attend_text
    from kotya.inference.loading import load_translator
    from kotya.pictures.canvas import check_path
    from kotya.pictures.heads import HeadMaps, draw_heads

    check_path(output)
    if not sentence.strip():
        raise KotyaError("the sentence is empty: there is nothing to attend to")
    config = folder.read_config(model)
    parts = ("attention", "encoder_attention", "cross_attention")
    if any(isinstance(one, LinformerConfig) for part in parts for one in getattr(config.model, part, ())):
        raise KotyaError(
            f"{model}: it looks at mixtures of all pieces (linformer), and there is no map of pieces"
        )
    if config.task == "translation":
        if second is not None:
            raise KotyaError("a translator reads one sentence; what it makes of it is --target")
        found = load_translator(model).translate(sentence) if target is None else target
        maps, title = attend(folder.load(model, task="translation"), sentence, found), f"{sentence} → {found}"
        kinds = [
            HeadMaps("Encoder", maps.source, maps.source, [one.numpy() for one in maps.encoder]),
            HeadMaps("Decoder", maps.inputs, maps.inputs, [one.numpy() for one in maps.decoder]),
            HeadMaps(
                "Decoder on encoder (cross)", maps.outputs, maps.source, [one.numpy() for one in maps.cross]
            ),
        ]
    else:
        if target is not None:
            raise KotyaError(f"--target is a translation, and {model} is no translator")
        texts = [sentence] if second is None else [sentence, second]
        pieces, layers = attend_text(model, texts)
        kinds, title = [HeadMaps("", pieces, pieces, [one.numpy() for one in layers])], " | ".join(texts)
    kinds = [kind for kind in kinds if kind.layers]
    if not kinds:
        raise KotyaError(f"{model}: this model has no attention to draw")
    draw_heads(kinds, output, title)
    print(output)


@app.command()
def beams(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="What `kotya translate --trace` wrote.")],
    line: Annotated[int, typer.Option(min=1, help="Whose tree: the number of the line.")] = 1,
    output: Output = Path("beams.png"),
) -> None:
    """Draw the beam tree of a line.

    Steps go across, the extensions looked at in each step down, the likeliest on top, with Σ log p below them. Bold
    is the translation that won; grey is what died out, and at which step it did.

    Example:

        echo "Я видел котю на мате" | kotya translate kotya-demo/model --beam 4 --trace beams.json
        kotya show beams beams.json --output beams.svg
    """
    from kotya.pictures.beams import BeamTree, draw_beams
    from kotya.pictures.canvas import check_path

    check_path(output)
    draw_beams(BeamTree.read(trace, line), output)
    print(output)


@app.command()
def lengths(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Model folders.")],
    source: Annotated[
        Path | None, typer.Option(help="A test set; by default that of the models' recipes.")
    ] = None,
    target: Annotated[Path | None, typer.Option(help="Its reference translation, line by line.")] = None,
    output: Output = Path("lengths.png"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that translate; one a core by default.")
    ] = None,
    allow_code: AllowCode = False,
) -> None:
    """Draw what the length of a sentence does to models.

    BLEU against the words of the source, in groups of lines of like length, each with its 95 % bootstrap interval;
    and the time that the encoder takes to read one sentence, against its pieces.

    Example:

        kotya show lengths runs/multi30k/rnn runs/multi30k/bahdanau runs/multi30k/transformer --output lengths.svg
    """
    from kotya.cli.options import prepare_workers
    from kotya.errors import KotyaError
    from kotya.inference.lengths import compare
    from kotya.pictures.canvas import check_path
    from kotya.text.corpus import TextSource

    check_path(output)
    if (source is None) != (target is None):
        raise KotyaError("--source goes with --target")
    files = (TextSource.of(source), TextSource.of(target)) if source and target else None
    threads = prepare_workers(None, "cpu")
    compare(models, files, workers=workers or threads, threads=threads).draw(output)
    print(output)


@app.command()
def patterns(
    attention: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATTERN]...",
            help="As in a recipe: a name, or {kind: window, left: 4, right: 4}; by default eight common ones, small.",
        ),
    ] = None,
    output: Output = Path("patterns.png"),
    length: Annotated[int, typer.Option(min=1, max=4096, help="Queries, downwards.")] = 24,
    keys: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Keys of another text, across; its own without it.")
    ] = None,
    causal: Annotated[bool, typer.Option("--causal", help="Nobody sees what comes after.")] = False,
    heads: Annotated[
        int | None, typer.Option(min=1, max=64, help="Heads in the layer; by default one of each pattern.")
    ] = None,
    layer: Annotated[int, typer.Option(min=0, help="By which random blocks are drawn.")] = 0,
) -> None:
    """Draw attention patterns: who sees whom, and what share of all pairs that is.

    A picture for each pattern that heads have, and for each head where all draw their own blocks.

    Example:

        kotya show patterns longformer "{kind: random, blocks: 2, size: 8}" --length 600 --causal
    """
    from kotya.inference.attention_forms import masks_of
    from kotya.pictures.canvas import check_path
    from kotya.pictures.patterns import draw_patterns

    check_path(output)
    masks = masks_of(attention or [], length, keys, causal=causal, heads=heads, layer=layer)
    draw_patterns(masks, output)
    print(output)


@app.command()
def cost(
    attention: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ATTENTION]...", help="As in a recipe: longformer, {kind: linear, features: favor}."
        ),
    ] = None,
    output: Output = Path("cost.png"),
    lengths: Annotated[str, typer.Option(help="Positions, with commas between.")] = "512,1024,2048,4096,8192",
    causal: Annotated[bool, typer.Option("--causal", help="Nobody sees what comes after.")] = False,
    device: Annotated[str, typer.Option(help="auto: a GPU where there is one; cpu, cuda, cuda:1 …")] = "auto",
) -> None:
    """Draw what attention costs on this machine, in time and memory, against the length of the text.

    One layer's attention, 8 heads of 64, forward and backward, without its projections. What takes longer than some
    seconds is not tried at greater lengths.

    Example:

        kotya show cost full longformer bigbird linear --lengths 1024,4096,16384 --output cost.svg
    """
    from kotya.cli.options import prepare_workers
    from kotya.folder import find_device
    from kotya.inference.attention_forms import costs_of
    from kotya.pictures.canvas import check_path
    from kotya.pictures.cost import draw_cost

    check_path(output)
    positions = _counts("--lengths", lengths)
    prepare_workers(1, device)
    seconds, memory = costs_of(attention or [], positions, causal=causal, device=device)
    draw_cost(seconds, memory, output, f"8 heads × 64, float32, one text, {find_device(device)}")
    print(output)


def _counts(option: str, text: str) -> list[int]:
    """Positive numbers with commas between, in order."""
    from kotya.errors import KotyaError

    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise KotyaError(f"{option} {text}: whole numbers with commas between") from None
    if counts[0] < 1:
        raise KotyaError(f"{option} {text}: numbers from 1 on")
    return counts


@app.command()
def approximation(
    output: Output = Path("approximation.png"),
    features: Annotated[
        str, typer.Option(help="How many random features, even numbers with commas between.")
    ] = "16,32,64,128,256,512,1024",
    length: Annotated[int, typer.Option(min=2, max=4096, help="Positions of a text.")] = 512,
    size: Annotated[int, typer.Option(min=1, max=512, help="Of a head.")] = 64,
    draws: Annotated[int, typer.Option(min=1, help="Of texts and of features, for each point.")] = 15,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of the first draw.")] = 1,
) -> None:
    """Draw how far FAVOR+ is from softmax attention, against how many random features it has.

    Median and quartiles over draws. A model may be wrong by more: what it has learned to look at is seldom spread
    evenly, and sharp attention needs the most features.

    Example:

        kotya show approximation --features 32,128,512 --output approximation.svg
    """
    from kotya.errors import KotyaError
    from kotya.inference.approximation import SPREADS, by_drawing, by_spread
    from kotya.pictures.approximation import draw_approximation
    from kotya.pictures.canvas import check_path

    check_path(output)
    counts = _counts("--features", features)
    if any(count % 2 for count in counts):
        raise KotyaError(f"--features {features}: they come in pairs, so even numbers")
    given = (counts, length, size, draws, seed)
    texts = f"{length} positions, a head of {size}, {draws} draws"
    caption = f"{texts}; logits ±: their standard deviation, {SPREADS[1]:g} on the right"
    draw_approximation(by_spread(*given), by_drawing(*given), output, caption)
    print(output)


@app.command()
def inputs(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The folder of an encoder, or of what stands on one.")
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The first text.")],
    second: Annotated[str | None, typer.Argument(metavar="[SECOND]", help="The second of a pair.")] = None,
    output: Output = Path("inputs.png"),
) -> None:
    """Draw what a BERT adds up for every piece of a text or a pair: token, segment and position embedding.

    Example:

        kotya show inputs runs/minilm "my dog is cute" "he likes playing" --output inputs.png
    """
    from kotya.inference.contexts import ContextReader
    from kotya.pictures.canvas import check_path
    from kotya.pictures.inputs import draw_inputs

    check_path(output)
    found = ContextReader(model).inputs([text] if second is None else [text, second])
    draw_inputs(found.pieces, found.segments, found.parts, output)
    print(output)


BANKS = (
    "he sat on the bank of the river",
    "the river has flooded its left bank",
    "she went to the bank on our street to get some money",
    "the bank on the street is closed on sundays",
)


@app.command()
def contexts(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The folder of an encoder, or of what stands on one.")
    ],
    sentences: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SENTENCE]...", help="Two or more with the word; four with `bank` without them."
        ),
    ] = None,
    word: Annotated[str, typer.Option(help="The word to look at.")] = "bank",
    output: Output = Path("contexts.png"),
) -> None:
    """Draw how the vector of an ambiguous word moves with its sentence, layer by layer.

    On top where it lies in every sentence, below how alike it is in every two (the cosine).

    Example:

        kotya show contexts runs/minilm --output contexts.png
        kotya show contexts runs/minilm --word mouse "the cat ate a mouse" "click with the mouse"
    """
    from kotya.errors import KotyaError
    from kotya.inference.contexts import ContextReader
    from kotya.pictures.canvas import check_path
    from kotya.pictures.contexts import draw_contexts

    check_path(output)
    given = sentences or list(BANKS)
    if len(given) < 2:
        raise KotyaError("one sentence alone: give two or more, so that there is something to compare")
    draw_contexts(word, given, ContextReader(model).word(word, given), output)
    print(output)
