"""`kotya score`."""

from pathlib import Path
from typing import Annotated

import typer

from kotya.cli.options import (
    AllowCode,
    Base,
    CoveragePenalty,
    Device,
    Ensemble,
    LengthPenalty,
    Normalization,
    Precision,
)


def score(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[
        Path | None, typer.Argument(help="Source, tab, translation on each line; standard input without it.")
    ] = None,
    ensemble: Ensemble = None,
    pieces: Annotated[
        bool, typer.Option("--pieces", help="The translations are pieces, as `translate --pieces` prints.")
    ] = False,
    normalization: Normalization = None,
    length_penalty: LengthPenalty = None,
    coverage_penalty: CoveragePenalty = None,
    base: Base = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    precision: Precision = "float32",
) -> None:
    """Print log p(translation | source), the end counted, and the score that search ranks by, a line each.

    The numbers are those of `kotya translate --scores` under the same options: the score is normalised by length, and
    the coverage penalty is added.

    Example: kotya score runs/ru-en pairs.tsv
    """
    from kotya.cli.alignments import read_pairs
    from kotya.cli.options import chosen, prepare_workers
    from kotya.inference.loading import load_translator

    prepare_workers(1, device)
    translator = load_translator([model, *(ensemble or [])], base=base, device=device, precision=precision)
    config = chosen(
        translator,
        normalization=normalization,
        length_penalty=length_penalty,
        coverage_penalty=coverage_penalty,
    ).search
    for one in translator.score(read_pairs(file), pieces=pieces, config=config):
        print(f"{one.log_probability:.6f}\t{one.score:.6f}", flush=True)
