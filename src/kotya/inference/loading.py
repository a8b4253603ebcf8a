"""`kotya.load`: a model folder, or several that vote, opened for use."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from kotya import folder
from kotya.attention.custom import own_code, own_code_allowed
from kotya.errors import KotyaError
from kotya.inference.translator import Translator
from kotya.models.packing import pack
from kotya.models.seq2seq import Seq2Seq
from kotya.tasks.translation_recipe import TranslationFolder, TranslationRecipe

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def load_translator(
    path: str | Path | Sequence[str | Path],
    *,
    device: str = "cpu",
    precision: str = "float32",
    allow_code: bool = False,
) -> Translator:
    """Open the folder of a translator. Several folders make an ensemble, whose vocabularies must be equal.

    `allow_code` lets a model use a score of the person's own, by its dotted path.
    Raises KotyaError where a folder is no whole translator, the device is not there, or vocabularies differ.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    if precision not in PRECISIONS:
        raise KotyaError(f"there is no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    with own_code(allow_code or own_code_allowed()):
        models = [folder.load(one, device, PRECISIONS[precision], task="translation") for one in paths]
    first, config = models[0], models[0].config
    assert isinstance(config, TranslationFolder)
    for one, model in zip(paths[1:], models[1:], strict=True):
        for side, mine, theirs in zip(
            ("source", "target"), first.vocabularies, model.vocabularies, strict=True
        ):
            if mine.fingerprint != theirs.fingerprint:
                raise KotyaError(
                    f"{one}: its {side} vocabulary is not that of {paths[0]}; models of an ensemble share theirs"
                )
    recipe = first.recipe
    guided = recipe.training.guided_alignment if isinstance(recipe, TranslationRecipe) else None
    return Translator(
        [packed(model.model) for model in models],
        first.vocabularies,
        config.search,
        config.banned,
        reading=guided.reading if guided is not None else None,
        name=", ".join(map(str, paths)),
    )


def packed(model: nn.Module) -> Seq2Seq:
    """A translation model, for use only."""
    assert isinstance(model, Seq2Seq)
    return pack(model.requires_grad_(False))
