"""`kotya.load`: a model folder opened for what its task is for; of translators several, that vote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from kotya import folder
from kotya.adapt.attach import settle
from kotya.attention.custom import own_code, own_code_allowed
from kotya.errors import KotyaError
from kotya.inference.adapted import Adapters
from kotya.inference.classifier import Classifier
from kotya.inference.generator import Generator
from kotya.inference.mask_filler import MaskFiller
from kotya.inference.ranker import Ranker
from kotya.inference.shared_encoder import share_encoder
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
from kotya.tasks.settings import FolderConfig
from kotya.tasks.tagging import TaggingFolder
from kotya.tasks.translation_recipe import TranslationFolder, TranslationRecipe

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


Predictor = Classifier | Ranker | Tagger | MaskFiller
"""What `kotya predict` uses."""


@overload
def load(
    path: str | Path | Sequence[str | Path],
    *,
    base: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    allow_code: bool = False,
) -> Translator | Predictor | Generator: ...
@overload
def load(
    path: str | Path,
    *,
    adapters: Sequence[str | Path],
    device: str = "auto",
    precision: str = "float32",
    allow_code: bool = False,
) -> Adapters: ...
def load(
    path: str | Path | Sequence[str | Path],
    *,
    adapters: Sequence[str | Path] | None = None,
    base: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    allow_code: bool = False,
) -> Translator | Predictor | Generator | Adapters:
    """Open a model folder; what it gives depends on its task. Raises KotyaError where it is no whole model.

    `adapters`: folders of adapters for the model in `path`, each to be asked by its name. `base`: where the base of an
    adapter in `path` lies, if not where it was trained on it.
    """
    first = Path(path) if isinstance(path, str | Path) else Path(path[0])
    if adapters is not None:
        if not isinstance(path, str | Path):
            raise KotyaError("adapters are of one base: name one model")
        if base is not None:
            raise KotyaError(f"{first} is the base of the adapters: leave base={base} out")
        return load_adapters(first, adapters, device=device, precision=precision, allow_code=allow_code)
    origin = Path(base) if base is not None else None
    if (not isinstance(path, str | Path) and len(path) > 1) or folder.read_config(
        first
    ).task == "translation":
        return load_translator(path, base=origin, device=device, precision=precision, allow_code=allow_code)
    return load_single(first, base=origin, device=device, precision=precision)


def load_adapters(
    base: Path, adapters: Sequence[str | Path], *, device: str, precision: str, allow_code: bool
) -> Adapters:
    """A base with adapters, by the names of their folders. Raises KotyaError where one is of another base."""
    paths = {Path(one).resolve().name: Path(one) for one in adapters}
    if len(paths) < len(adapters) or not adapters:
        raise KotyaError("adapters: folders with names of their own, one at least")
    for path in paths.values():
        if folder.read_config(path).adapter is None:
            raise KotyaError(f"{path}: a whole model, no adapter")
    shared = share_encoder(base, paths, device, checked_precision(precision))
    if shared is not None:
        return Adapters(shared.predictors, shared)
    options: dict[str, Any] = {
        "base": base,
        "device": device,
        "precision": precision,
        "allow_code": allow_code,
    }
    return Adapters({name: load(path, **options) for name, path in paths.items()})


def load_single(
    path: Path, *, base: Path | None = None, device: str = "auto", precision: str = "float32"
) -> Predictor | Generator:
    """Open the folder of a model that works alone. Raises KotyaError for one that only others can start from."""
    loaded = folder.load(path, device, checked_precision(precision), base=base)
    check_adapters([loaded.config], base, path)
    settle(loaded.model)
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
        case TranslationFolder():
            raise KotyaError(f"{path}: a translator: kotya translate, or kotya.load")
    raise KotyaError(
        f"{path}: an encoder without a head says nothing by itself; fine-tune it: kotya train --base"
    )


def check_adapters(configs: Sequence[FolderConfig], base: Path | None, path: Path) -> None:
    """Raises KotyaError where a base is given and there is no adapter to have one."""
    if base is not None and all(config.adapter is None for config in configs):
        raise KotyaError(f"{path}: a whole model; --base {base} is for an adapter's")


def checked_precision(name: str) -> torch.dtype:
    """The type that numbers are kept in. Raises KotyaError."""
    if name not in PRECISIONS:
        raise KotyaError(f"there is no precision {name!r}; there are {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def load_translator(
    path: str | Path | Sequence[str | Path],
    *,
    base: Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    allow_code: bool = False,
) -> Translator:
    """Open the folder of a translator. Several folders make an ensemble, whose vocabularies must be equal.

    `base`: where that of an adapter lies, if not where it lay. `allow_code` lets a model use a score of the person's
    own, by its dotted path.
    Raises KotyaError where a folder is no whole translator, the device is not there, or vocabularies differ.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    kind = checked_precision(precision)
    with own_code(allow_code or own_code_allowed()):
        models = [folder.load(one, device, kind, task="translation", base=base) for one in paths]
    check_adapters([model.config for model in models], base, paths[0])
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
    settle(model)
    return pack(model.requires_grad_(False))
