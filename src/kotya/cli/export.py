"""`kotya export`: a model folder in the form of another library."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kotya.cli.options import Base


class Form(StrEnum):
    """Whose form."""

    HUGGINGFACE = "huggingface"
    PEFT = "peft"


def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    output: Annotated[Path, typer.Argument(help="The folder to write.")],
    to: Annotated[
        Form,
        typer.Option(
            "--to", help="Whose form: huggingface, which `transformers` loads; peft, for an adapter, a LoRA."
        ),
    ],
    base: Base = None,
) -> None:
    """Write a model in the form of another library: weights, vocabulary, labels.

    An encoder and what was tuned on it become BERT, RoBERTa, DistilBERT, ModernBERT, Longformer or BigBird of
    `transformers`, whichever it is, with the same ids and the same logits. A LoRA becomes a folder that PEFT loads on
    the model its base was imported from.

    Examples:

        kotya export runs/sst2 sst2-huggingface --to huggingface
        kotya export runs/sst2-lora sst2-peft --to peft
    """
    if to is Form.PEFT:
        from kotya.interop.peft_out import export_peft

        typer.echo(f"LoRA of {export_peft(model, output, base)} written to {output}", err=True)
        return
    from kotya.errors import KotyaError
    from kotya.interop.huggingface import export_model

    if base is not None:
        raise KotyaError("--base goes with --to peft: a whole model has none")
    name = export_model(model, output)
    typer.echo(f"{name} written to {output}", err=True)
