"""`kotya predict`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kotya.cli.options import Base, Device, Precision, json_line


class Tags(StrEnum):
    """How entities are written as tags."""

    IOB1 = "iob1"
    IOB2 = "iob2"
    IOBES = "iobes"


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[Path | None, typer.Argument(help="One text a line; standard input without it.")] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="What tab-separated lines hold, in order: text (twice for a pair), or query_id, document_id, query, "
            "document; - for a column not used."
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Read a text that is too long in windows that begin so many pieces apart, instead of cutting it: the "
            "mean counts, of a ranker the best. (Taggers read long texts in parts anyway.)",
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Fills for every [MASK]; 5 without it.")] = None,
    trec: Annotated[
        bool, typer.Option("--trec", help="Write rankings as a run file of TREC instead of JSON.")
    ] = False,
    tags: Annotated[
        Tags | None, typer.Option(help="Read CoNLL, a word a line, and write it with tags in this scheme.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """Labels, relevance, entities or fills for [MASK], as JSON, a line each, in the order of the input.

    What a line of input is depends on the model: a text, two with a tab between them for a model of pairs, or query id,
    document id, query and document, the documents of a query together.

    Example: kotya predict runs/sst2 < reviews.txt

    Example: kotya predict runs/wikiqa candidates.tsv --trec > wikiqa.run

    Example: echo "Paris is the [MASK] of France." | kotya predict runs/bert --top 3
    """
    import sys

    from kotya.cli.options import prepare_workers
    from kotya.errors import KotyaError
    from kotya.inference import predictions
    from kotya.inference.classifier import Classifier
    from kotya.inference.loading import load_single
    from kotya.inference.mask_filler import MaskFiller
    from kotya.inference.ranker import Ranker
    from kotya.inference.tagger import Tagger
    from kotya.tasks.rankings import trec_run
    from kotya.text.corpus import read_input

    prepare_workers(1, device)
    opened = load_single(model, base=base, device=device, precision=precision)
    options = {"--columns": columns, "--stride": stride, "--trec": trec or None, "--tags": tags, "--top": top}
    known = {
        Classifier: ("--columns", "--stride"),
        Ranker: ("--columns", "--stride", "--trec"),
        Tagger: ("--tags",),
        MaskFiller: ("--top",),
    }
    for name, value in options.items():
        if value is not None and name not in known.get(type(opened), ()):
            raise KotyaError(f"{name} means nothing to this model: {model} is a {type(opened).__name__}")
    lines, names = read_input(file), columns.split(",") if columns is not None else None
    match opened:
        case Classifier():
            objects = predictions.classified(opened, lines, names, stride, file)
        case Ranker() if trec:
            for line in trec_run(predictions.ranked(opened, lines, names, stride, file), "kotya"):
                print(line, flush=True)
            objects = iter(())
        case Ranker():
            objects = (
                {
                    "query_id": query,
                    "documents": [{"document_id": name, "score": round(x, 6)} for name, x in found],
                }
                for query, found in predictions.ranked(opened, lines, names, stride, file)
            )
        case Tagger() if tags is not None:
            for block in predictions.conll(opened, lines, tags.value):
                print(block, flush=True)
            objects = iter(())
        case Tagger():
            objects = predictions.tagged(opened, lines)
        case MaskFiller():
            objects = predictions.filled(opened, lines, top or 5, file)
        case _:
            raise KotyaError(f"{model}: a language model goes on with texts: kotya generate")
    labelled = joined = 0
    for one in objects:
        print(json_line(one), flush=True)
        labelled += names is None and predictions.has_label(one)
        joined += names is None and predictions.may_be_a_pair(opened, one)
    if labelled:
        print(
            f"kotya: {labelled:,} lines were read as text whole, with a column in them that is a label; "
            "--columns -,text leaves it out",
            file=sys.stderr,
        )
    if joined:
        print(
            f"kotya: {joined:,} lines with a tab were read as one text; --columns text,text reads them as pairs",
            file=sys.stderr,
        )
    cut = getattr(opened, "cut", 0)
    if cut:
        print(
            f"kotya: {cut:,} texts were longer than the model reads, and cut"
            + (
                "; --stride reads more"
                if stride is None and "--stride" in known.get(type(opened), ())
                else ""
            ),
            file=sys.stderr,
        )
