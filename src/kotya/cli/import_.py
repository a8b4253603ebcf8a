"""`kotya import`: a model folder from another library's model."""

from pathlib import Path
from typing import Annotated

import typer


def import_(
    source: Annotated[
        str,
        typer.Argument(help="A Hugging Face folder, or a name on its hub (owner/name, owner/name@revision)."),
    ],
    output: Annotated[Path, typer.Argument(help="The folder to write.")],
) -> None:
    """Make a model folder from a MarianMT model of Hugging Face: weights, vocabularies, search settings.

    The imported model gives the same ids and the same probabilities as the original.

    Examples:

        kotya import downloads/opus-mt-ru-en runs/opus-ru-en
        kotya import Helsinki-NLP/opus-mt-ru-en runs/opus-ru-en
    """
    from kotya.interop.huggingface import import_model

    model = import_model(source, output)
    weights = sum(parameter.numel() for parameter in model.model.parameters())
    typer.echo(f"{weights:,} weights and {len(model.target):,} pieces written to {output}", err=True)
