"""`kotya evaluate`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kotya.cli.alignments import AtStep, Head, Layer, Symmetrize
from kotya.cli.options import AllowCode, Base, Device, Ensemble, LengthPenalty, Precision

if TYPE_CHECKING:
    from kotya.inference.evaluation import AlignmentReport


class Part(StrEnum):
    """Which set of the recipe."""

    TEST = "test"
    DEV = "dev"


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    source: Annotated[
        Path | None,
        typer.Argument(
            help="Text to translate, or the file of the model's task; the recipe's test set by default."
        ),
    ] = None,
    target: Annotated[Path | None, typer.Argument(help="Its reference translation, line by line.")] = None,
    ensemble: Ensemble = None,
    part: Annotated[Part, typer.Option("--set", help="Which set of the recipe, without files.")] = Part.TEST,
    beam: Annotated[
        int | None, typer.Option(min=1, help="Hypotheses kept open; the model's own by default.")
    ] = None,
    length_penalty: LengthPenalty = None,
    alignments: Annotated[
        Path | None,
        typer.Option(
            metavar="GOLD",
            help="Score word alignments instead, with these: GOLD.sure and GOLD.possible, links i-j.",
        ),
    ] = None,
    layer: Layer = None,
    head: Head = None,
    step: AtStep = None,
    symmetrize: Symmetrize = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the translations there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads on a CPU; one a core by default.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    precision: Precision = "float32",
) -> None:
    """The metrics of a model on a test set: BLEU and chrF with sacreBLEU's signatures, or those of its task.

    With --alignments, the alignment error rate, precision and recall of its attention on the given translations, read
    in every layer and at both steps unless --layer or --step says which.

    Example: kotya evaluate runs/de-en --beam 5

    Example: kotya evaluate runs/ru-en test.ru test.en --json

    Example: kotya evaluate runs/conll2003 --set dev

    Example: kotya evaluate runs/en-cs dev.en dev.cs --alignments dev
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from kotya.cli.alignments import reading_options
    from kotya.cli.options import chosen, prepare_workers
    from kotya.errors import KotyaError
    from kotya.files import check_file, write_text
    from kotya.folder import read_config
    from kotya.inference.evaluation import evaluate as measure
    from kotya.inference.evaluation import evaluate_alignments, recipe_set
    from kotya.inference.loading import load_translator
    from kotya.text.corpus import TextSource

    if output is not None:
        check_file(output)
    if source is not None and part is not Part.TEST:
        raise KotyaError("--set names a set of the recipe, and here are files")
    if read_config(model).task != "translation":
        given = (target, ensemble, beam, length_penalty, alignments, layer, head, step, symmetrize, output)
        if any(one is not None for one in (*given, workers)):
            raise KotyaError(
                f"{model}: no translator; its metrics take a file, --set, --json, --base and --device alone"
            )
        prepare_workers(1, device)
        print_metrics(model, source, part, base, as_json=as_json, device=device, precision=precision)
        return
    if (source is None) != (target is None):
        raise KotyaError("a source file goes with its reference: kotya evaluate MODEL SOURCE TARGET")
    if source is not None and target is not None:
        files = TextSource.of(source), TextSource.of(target)
    else:
        files = recipe_set(model, part.value)
    if alignments is not None and any(one is not None for one in (beam, length_penalty, output, workers)):
        raise KotyaError(
            "--beam, --length-penalty, --output and --workers are of translations: with --alignments none is made"
        )
    count = prepare_workers(1 if alignments is not None else workers, device)
    reading = reading_options(layer, head, step)
    if alignments is None and (reading or symmetrize is not None):
        raise KotyaError(
            "--layer, --head, --step and --symmetrize say how alignments are read: add --alignments GOLD"
        )
    translator = load_translator([model, *(ensemble or [])], base=base, device=device, precision=precision)
    if alignments is not None:
        reverse = (
            load_translator(symmetrize, device=device, precision=precision)
            if symmetrize is not None
            else None
        )
        scored = evaluate_alignments(translator, reverse, *files, alignments, reading)
        print_alignments(scored, as_json=as_json)
        return
    choice = chosen(translator, beam=beam, length_penalty=length_penalty)
    report = measure(translator, *files, choice, workers=count)
    if output is not None:
        write_text(output, "".join(line + "\n" for line in report.outputs))
    if as_json:
        scores = [{"name": one.name, "value": one.value, "signature": one.signature} for one in report.scores]
        print(json.dumps({"lines": report.lines, "seconds": report.seconds, "scores": scores}))
        return
    table = Table("metric", "score", "signature", box=None)
    for one in report.scores:
        table.add_row(one.name, f"{one.value:.2f}", one.signature)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    rate = report.lines / report.seconds
    console.print(
        f"{report.lines:,} lines of {report.sources} in {report.seconds:.1f} s, {rate:,.0f} a second"
    )


def print_metrics(
    model: Path,
    data: Path | None,
    part: Part,
    base: Path | None,
    *,
    as_json: bool,
    device: str,
    precision: str,
) -> None:
    """A row a metric."""
    import json
    import sys

    from rich.console import Console
    from rich.table import Table

    from kotya.inference.evaluation import evaluate_task

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    report = evaluate_task(model, data, part.value, say, base=base, device=device, precision=precision)
    if as_json:
        print(json.dumps({"file": report.file, "seconds": report.seconds, "metrics": report.metrics}))
        return
    table = Table("metric", "score", box=None)
    for name, value in report.metrics.items():
        table.add_row(name, f"{value:.2f}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print(f"{report.file} in {report.seconds:.1f} s")


def print_alignments(report: "AlignmentReport", *, as_json: bool) -> None:
    """A row a reading."""
    import json

    from rich.console import Console
    from rich.table import Table

    if as_json:
        rows = [{**reading.model_dump(), **vars(scores)} for reading, scores in report.rows]
        print(json.dumps({"lines": report.lines, "alignments": rows}))
        return
    table = Table("layer", "head", "step", "AER", "precision", "recall", box=None)
    for reading, scores in report.rows:
        numbers = (f"{value:.1f}" for value in (scores.aer, scores.precision, scores.recall))
        table.add_row(str(reading.layer), str(reading.head), reading.step, *numbers)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print(f"{report.lines:,} lines of {report.sources} against {report.gold}")
