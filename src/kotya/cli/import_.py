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
    base: Annotated[
        Path | None,
        typer.Option(help="Of an adapter of PEFT's: the model folder imported from what it was made for."),
    ] = None,
) -> None:
    """Make a model folder from a model of Hugging Face's: weights, vocabulary, labels, search settings.

    MarianMT becomes a translator. BERT, RoBERTa, DistilBERT, ModernBERT, Longformer and BigBird become what stands on
    them: a classifier, a tagger, a filler of masks, or an encoder alone, to start from with --base. Ids and logits are
    those of the original. A LoRA of PEFT's becomes an adapter of a model folder.

    Examples:

        kotya import downloads/opus-mt-ru-en runs/opus-ru-en
        kotya import downloads/all-MiniLM-L6-v2 runs/minilm
        kotya import Helsinki-NLP/opus-mt-ru-en runs/opus-ru-en
        kotya import downloads/minilm-lora runs/minilm-lora --base runs/minilm
    """
    from kotya.interop.huggingface import import_model
    from kotya.interop.peft_in import import_peft, is_peft

    if base is not None or is_peft(Path(source)):
        adapter = import_peft(Path(source), output, base)
        trained = sum(tensor.numel() for tensor in adapter.tensors.values())
        task = adapter.config.task.replace("_", " ")
        typer.echo(f"{task}: an adapter of {trained:,} weights written to {output}", err=True)
        return
    found = import_model(source, output)
    for note in found.notes:
        typer.echo(f"kotya: {note}", err=True)
    weights = sum(parameter.numel() for parameter in found.model.parameters())
    task, pieces = found.config.task.replace("_", " "), len(found.vocabularies[1])
    typer.echo(f"{task}: {weights:,} weights and {pieces:,} pieces written to {output}", err=True)
