"""`kotya export`: a model folder in the form of another library."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Form(StrEnum):
    """Whose form."""

    HUGGINGFACE = "huggingface"


def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    output: Annotated[Path, typer.Argument(help="The folder to write.")],
    to: Annotated[Form, typer.Option("--to", help="Whose form: huggingface, which `transformers` loads.")],
) -> None:
    """Write a model in the form of another library: weights, vocabulary, labels.

    An encoder and what was tuned on it become BERT, RoBERTa, DistilBERT, ModernBERT, Longformer or BigBird of
    `transformers`, whichever it is, with the same ids and the same logits.

    Example: kotya export runs/sst2 sst2-huggingface --to huggingface
    """
    from kotya.interop.huggingface import export_model

    name = export_model(model, output)
    typer.echo(f"{name} written to {output}", err=True)
