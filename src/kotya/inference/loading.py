"""`kotya.load`: a model folder opened for what its task is for; of translators several, that vote."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from kotya import folder
from kotya.attention.custom import own_code, own_code_allowed
from kotya.errors import KotyaError
from kotya.inference.classifier import Classifier
from kotya.inference.generator import Generator
from kotya.inference.mask_filler import MaskFiller
from kotya.inference.ranker import Ranker
from kotya.inference.tagger import Tagger
from kotya.inference.translator import Translator
from kotya.models.bert import MaskedLM
from kotya.models.heads import SequenceModel, TokenModel
from kotya.models.lm import LanguageModel
from kotya.models.packing import pack
from kotya.models.seq2seq import Seq2Seq
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.language_model import LanguageModelFolder
from kotya.tasks.masked_lm import MaskedLMFolder
from kotya.tasks.relevance import RelevanceFolder
from kotya.tasks.tagging import TaggingFolder
from kotya.tasks.translation_recipe import TranslationFolder, TranslationRecipe

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


Predictor = Classifier | Ranker | Tagger | MaskFiller
"""What `kotya predict` uses."""


def load(
    path: str | Path | Sequence[str | Path],
    *,
    device: str = "cpu",
    precision: str = "float32",
    allow_code: bool = False,
) -> Translator | Predictor | Generator:
    """Open a model folder; what it gives depends on its task. Raises KotyaError where it is no whole model."""
    first = Path(path) if isinstance(path, str | Path) else Path(path[0])
    if (not isinstance(path, str | Path) and len(path) > 1) or folder.read_config(
        first
    ).task == "translation":
        return load_translator(path, device=device, precision=precision, allow_code=allow_code)
    return load_single(first, device=device, precision=precision)


def load_single(path: Path, *, device: str = "cpu", precision: str = "float32") -> Predictor | Generator:
    """Open the folder of a model that works alone. Raises KotyaError for one that only others can start from."""
    loaded = folder.load(path, device, checked_precision(precision))
    model, vocabulary = loaded.model.requires_grad_(False), loaded.vocabularies[0]
    match loaded.config:
        case ClassificationFolder() as config:
            assert isinstance(model, SequenceModel)
            return Classifier(model, vocabulary, config)
        case RelevanceFolder() as config:
            assert isinstance(model, SequenceModel)
            return Ranker(model, vocabulary, config)
        case TaggingFolder() as config:
            assert isinstance(model, TokenModel)
            return Tagger(model, vocabulary, config)
        case MaskedLMFolder() as config:
            assert isinstance(model, MaskedLM)
            return MaskFiller(model, vocabulary, config)
        case LanguageModelFolder() as config:
            assert isinstance(model, LanguageModel)
            return Generator(model, vocabulary, config)
    raise KotyaError(
        f"{path}: an encoder without a head says nothing by itself; fine-tune it: kotya train --base"
    )


def checked_precision(name: str) -> torch.dtype:
    """The type that numbers are kept in. Raises KotyaError."""
    if name not in PRECISIONS:
        raise KotyaError(f"there is no precision {name!r}; there are {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


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
    kind = checked_precision(precision)
    with own_code(allow_code or own_code_allowed()):
        models = [folder.load(one, device, kind, task="translation") for one in paths]
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
