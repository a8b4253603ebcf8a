"""`kotya.load`: a model folder, or several that vote, opened for use."""

from collections.abc import Sequence
from pathlib import Path

import torch

from kotya import folder
from kotya.attention.custom import own_code, own_code_allowed
from kotya.errors import KotyaError
from kotya.inference.translator import Translator
from kotya.models.packing import pack

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def load(
    path: str | Path | Sequence[str | Path],
    *,
    device: str = "cpu",
    precision: str = "float32",
    allow_code: bool = False,
) -> Translator:
    """Open a model folder. Several folders make an ensemble, whose vocabularies must be equal.

    `allow_code` lets a model use a score of the person's own, by its dotted path.
    Raises KotyaError where a folder is no whole model, the device is not there, or vocabularies differ.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    if precision not in PRECISIONS:
        raise KotyaError(f"there is no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    with own_code(allow_code or own_code_allowed()):
        models = [folder.load(one, device, PRECISIONS[precision]) for one in paths]
    first = models[0]
    for one, model in zip(paths[1:], models[1:], strict=True):
        for side, mine, theirs in zip(
            ("source", "target"), first.vocabularies, model.vocabularies, strict=True
        ):
            if mine.fingerprint != theirs.fingerprint:
                raise KotyaError(
                    f"{one}: its {side} vocabulary is not that of {paths[0]}; models of an ensemble share theirs"
                )
    for model in models:
        model.model.requires_grad_(False)
        pack(model.model)
    guided = first.recipe.training.guided_alignment if first.recipe is not None else None
    return Translator(
        [model.model for model in models],
        first.vocabularies,
        first.config.search,
        first.config.banned,
        reading=guided.reading if guided is not None else None,
        name=", ".join(map(str, paths)),
    )
