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
    """Make a model folder from a model of Hugging Face's: weights, vocabulary, labels, search settings.

    MarianMT becomes a translator. BERT, RoBERTa, DistilBERT, ModernBERT, Longformer and BigBird become what stands on
    them: a classifier, a tagger, a filler of masks, or an encoder alone, to start from with --base. Ids and logits are
    those of the original.

    Examples:

        kotya import downloads/opus-mt-ru-en runs/opus-ru-en
        kotya import downloads/all-MiniLM-L6-v2 runs/minilm
        kotya import Helsinki-NLP/opus-mt-ru-en runs/opus-ru-en
    """
    from kotya.interop.huggingface import import_model

    found = import_model(source, output)
    for note in found.notes:
        typer.echo(f"kotya: {note}", err=True)
    weights = sum(parameter.numel() for parameter in found.model.parameters())
    task, pieces = found.config.task.replace("_", " "), len(found.vocabularies[1])
    typer.echo(f"{task}: {weights:,} weights and {pieces:,} pieces written to {output}", err=True)
