"""`kotya translate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kotya.cli.alignments import AtStep, Format, Head, Layer
from kotya.cli.options import (
    AllowCode,
    Base,
    CoveragePenalty,
    Device,
    Ensemble,
    LengthPenalty,
    Normalization,
    Precision,
    finite,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kotya.inference.translator import Candidate, Choice, Translator


def translate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[
        Path | None, typer.Argument(help="One sentence a line; standard input without it.")
    ] = None,
    ensemble: Ensemble = None,
    beam: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept open; 1 is greedy search.")] = None,
    nbest: Annotated[
        int | None, typer.Option(min=1, help="Print that many a line, each with the line's number.")
    ] = None,
    normalization: Normalization = None,
    length_penalty: LengthPenalty = None,
    coverage_penalty: CoveragePenalty = None,
    stop: Annotated[
        str | None,
        typer.Option(
            help="exact: no open hypothesis can still win; first-beam: as many as the beam ended; "
            "full-beam: and the best open one beats none of them as it stands."
        ),
    ] = None,
    max_length_ratio: Annotated[
        float | None,
        typer.Option(min=0, callback=finite, help="a: an output has at most a·source + b pieces."),
    ] = None,
    max_length_extra: Annotated[int | None, typer.Option(min=1, help="b of that cap.")] = None,
    prefix: Annotated[
        Path | None, typer.Option(help="What each translation must begin with, one a line; may be empty.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Draw N translations a line instead of searching, and print them all."
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=1e-3, callback=finite, help="Below 1 sharper, above 1 flatter; 1 without it."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, help="Draw from the k likeliest pieces; all without it.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            min=1e-6, max=1, callback=finite, help="Draw from the likeliest that together have probability p."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of sampling; 1 without it.")] = None,
    mbr: Annotated[
        str | None, typer.Option(help="Of the samples, that which agrees best with the others: chrf or bleu.")
    ] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Before each: Σ log p, and the score.")] = False,
    pieces: Annotated[bool, typer.Option("--pieces", help="Print pieces instead of text.")] = False,
    alignments: Annotated[
        bool, typer.Option("--alignments", help="Behind each: its word alignment, of beam search too.")
    ] = False,
    as_format: Annotated[
        Format, typer.Option("--format", help="Of alignments: links i-j, or words, weights and links.")
    ] = Format.PHARAOH,
    layer: Layer = None,
    head: Head = None,
    step: AtStep = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write the beam trees to this file, a JSON object a line.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Batches at once; all cores without it.")] = None,
    base: Base = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    precision: Precision = "float32",
) -> None:
    """Translate lines, in their order, each as soon as it and all before it are done.

    With --scores, --nbest or --alignments, tab-separated columns: line number (with --nbest), Σ log p, score,
    translation, alignment. Alignments are read as `kotya align` does, in one more pass over what was found.

    Example: kotya translate runs/ru-en --beam 5 < in.ru > out.en
    """
    from kotya.cli.alignments import reading_options, written
    from kotya.cli.options import chosen, prepare_workers
    from kotya.errors import KotyaError
    from kotya.files import check_file
    from kotya.inference.loading import load_translator
    from kotya.text.corpus import read_input, read_lines

    if trace is not None and (sample is not None or prefix is not None):
        raise KotyaError("--trace shows beam search; it goes with neither --sample nor --prefix")
    if trace is not None and workers is not None:
        raise KotyaError("--trace follows one line at a time; it has no --workers")
    reading = reading_options(layer, head, step)
    if (reading or as_format is not Format.PHARAOH) and not alignments:
        raise KotyaError("--layer, --head, --step and --format say how alignments are read: add --alignments")
    if trace is not None:
        check_file(trace)
    if alignments and trace is not None:
        raise KotyaError("--trace and --alignments do not go together: use one after the other")
    if nbest is None and sample is not None and sample > 1 and mbr is None:
        nbest = sample  # whoever draws N wants to see N
    count = prepare_workers(1 if trace is not None else workers, device)
    translator = load_translator([model, *(ensemble or [])], base=base, device=device, precision=precision)
    choice = chosen(
        translator,
        beam=beam,
        nbest=nbest,
        normalization=normalization,
        length_penalty=length_penalty,
        coverage_penalty=coverage_penalty,
        stop=stop,
        max_length_ratio=max_length_ratio,
        max_length_extra=max_length_extra,
        samples=sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        mbr=mbr,
        scores=scores,
    )
    several = nbest is not None or choice.search.nbest > 1
    lines = read_input(file)
    prefixes = read_lines(prefix) if prefix is not None else None
    if alignments:
        pairs = translator.aligned(
            lines,
            choice,
            translator.aligner(**reading),
            prefixes=prefixes,
            workers=count,
            ahead=64 if file else 1,
        )
        for number, aligned in enumerate(pairs, start=1):
            for candidate, alignment in aligned:
                shown = row(candidate, number if several else None, scores=scores, pieces=pieces)
                print(shown, written(alignment, as_format), sep="\t", flush=True)
        return
    if trace is not None:
        found = traced(translator, lines, choice, trace)
    else:
        found = translator.candidates(lines, choice, prefixes=prefixes, workers=count)
    for number, candidates in enumerate(found, start=1):
        for candidate in candidates:
            print(row(candidate, number if several else None, scores=scores, pieces=pieces), flush=True)


def row(candidate: "Candidate", number: int | None, *, scores: bool, pieces: bool) -> str:
    """One line of output."""
    columns = [str(number)] if number is not None else []
    if scores:
        columns += [f"{candidate.log_probability:.6f}", f"{candidate.score:.6f}"]
    text = " ".join(candidate.pieces) if pieces else candidate.text
    # a translation is one line, whatever the model says
    return "\t".join([*columns, " ".join(text.splitlines())])


def traced(
    translator: "Translator", lines: "Iterator[str]", choice: "Choice", path: Path
) -> "Iterator[list[Candidate]]":
    """Translate, and write the beam tree of every line; the file is there when all are."""
    import json

    from kotya.files import replacing

    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        for candidates, tree in translator.trace(lines, choice):
            json.dump(tree, file, ensure_ascii=False)
            file.write("\n")
            yield candidates
