"""Encoders in and out: a Hugging Face folder of BERT, RoBERTa, DistilBERT, ModernBERT, Longformer or BigBird as ours.

What stands on the encoder says for what task it is: `BertForTokenClassification` is a tagger. The logits are the same.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kotya import folder as folders
from kotya.errors import KotyaError
from kotya.interop.bert import BERT, DISTILBERT, ROBERTA
from kotya.interop.big_bird import BIG_BIRD
from kotya.interop.family import CLASSES, Family, Head, names_of, ours_of, theirs_of
from kotya.interop.longformer import LONGFORMER
from kotya.interop.marian import read_json
from kotya.interop.modernbert import MODERNBERT
from kotya.interop.stored import read_stored
from kotya.interop.vocabulary import KEYS, read_length, read_vocabulary
from kotya.models.bert import BertConfig
from kotya.models.empty import build_empty
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.encoder_recipe import EncoderFolder, TunedFolder
from kotya.tasks.masked_lm import MaskedLMFolder
from kotya.tasks.relevance import RelevanceFolder
from kotya.tasks.settings import FolderConfig
from kotya.tasks.tagging import TaggingFolder
from kotya.text.vocabularies import Vocabularies
from kotya.text.vocabulary import Vocabulary

FAMILIES: dict[str, Family] = {
    one.model_type: one for one in (BERT, ROBERTA, DISTILBERT, MODERNBERT, LONGFORMER, BIG_BIRD)
}
EMBEDDINGS, POOLER = "encoder.embedding.tokens", "encoder.pooler.dense.weight"
NEXT_SENTENCE, OUTPUT = "next_sentence.weight", "head.weight"
COPIES = re.compile(r"position_ids$|(decoder|vocab_projector)\.(weight|bias)$")
"""Of theirs, what only repeats another weight or counts."""
BILOU = {"L-": "E-", "U-": "S-"}
"""Its tags, of the last word and of the only one, as those of IOBES."""
WITH_POOLER = ("bert", "roberta", "longformer", "big_bird")
"""Families whose bare encoder has a pooler."""
WITH_NEXT_SENTENCE = (BERT, BIG_BIRD)


@dataclass(frozen=True)
class Imported:
    """A model of another library's, read."""

    config: FolderConfig
    model: nn.Module
    vocabularies: Vocabularies
    notes: tuple[str, ...] = ()
    """What of it was left out."""


# ── In ────────────────────────────────────────────────────────────────────────────────────────────────────


def read_encoder(folder: Path) -> Imported:
    """Raises KotyaError where a file is missing, broken, or asks for what kotya's encoder does not do."""
    path = folder / "config.json"
    content = read_json(path)
    family = FAMILIES[content["model_type"]]
    stored = read_stored(folder / "model.safetensors")
    head, notes = head_of(content, family, path)
    settings = family.settings(content, head, path)
    pad = content.get("pad_token_id")

    def theirs(name: str) -> Tensor | None:
        """Their weight that holds one of ours, where there is one."""
        place = family.place(name, settings, head, pad or 0)
        return next((stored[one] for one in names_of(family, place.name) if one in stored), None)

    embeddings = theirs(EMBEDDINGS)
    if embeddings is None:
        raise KotyaError(f"{folder / 'model.safetensors'}: there are no word embeddings in it")
    vocabulary = read_vocabulary(folder, family.model_type, len(embeddings))
    pooler = settings.pooler != "none" and theirs(POOLER) is not None
    config: FolderConfig
    match head:
        case "encoder":
            config = EncoderFolder(model=settings, pooler=pooler)
        case "masked_lm":
            pairs = family in WITH_NEXT_SENTENCE and theirs(NEXT_SENTENCE) is not None and pooler
            config = MaskedLMFolder(model=settings, next_sentence=pairs)
        case "classification":
            labels = labels_of(content, theirs(OUTPUT), path)
            if labels or content.get("problem_type") == "regression":
                config = ClassificationFolder(model=settings, labels=labels, texts=None)
            else:
                config = RelevanceFolder(model=settings)
                notes = [
                    "one output that is not called a regression: it says how relevant a document is to a query"
                ]
        case "tagging":
            labels = labels_of(content, theirs(OUTPUT), path)
            if not labels:
                raise KotyaError(f"{path}: a tagger with one label; there is nothing to tell apart")
            config = TaggingFolder(
                model=settings, labels=[BILOU.get(one[:2], one[:2]) + one[2:] for one in labels]
            )
    if isinstance(config, TunedFolder):
        config = config.model_copy(update={"max_length": read_length(folder, settings.max_length)})
    vocabularies = (vocabulary, vocabulary)
    model = build_empty(lambda: config.build(vocabularies))
    wanted = {name: parameter.detach() for name, parameter in model.named_parameters()}
    pad = vocabulary.pad if pad is None else pad
    weights = folder / "model.safetensors"
    found, unread = ours_of(family, stored, wanted, settings, head, pad, weights)
    folders.assign(model, found, weights)
    left = [name for name in unread if not COPIES.search(name)]
    if left:
        notes.append(f"left out: {', '.join(left[:6])}" + (f" and {len(left) - 6} more" if left[6:] else ""))
    return Imported(config, model.eval(), vocabularies, tuple(notes))


def head_of(content: dict[str, Any], family: Family, path: Path) -> tuple[Head, list[str]]:
    """What stands on the encoder, by the name of its class; of a head that is not read, that it is left out."""
    classes = content.get("architectures") or [f"{family.stem}Model"]
    name = str(classes[0])
    head = CLASSES.get(name.removeprefix(family.stem))
    if content.get("problem_type") == "multi_label_classification":
        raise KotyaError(f"{path}: several labels a text (multi_label_classification) are not read")
    if head is None:
        return "encoder", [f"{name}: only its encoder is read, not its head"]
    return head, []


def labels_of(content: dict[str, Any], weight: Tensor | None, path: Path) -> list[str]:
    """Names of the outputs in order; none where there is one output, a number."""
    names = content.get("id2label") or {}
    if not isinstance(names, dict):
        raise KotyaError(f"{path}: id2label is no object of numbers and names")
    count = len(names) if weight is None else len(weight)
    if count == 1:
        return []
    if content.get("problem_type") == "regression":
        raise KotyaError(f"{path}: regression of {count} numbers; one is read")
    labels = [str(names.get(str(number), f"LABEL_{number}")) for number in range(count)]
    if len(set(labels)) < count:
        raise KotyaError(f"{path}: two labels in id2label have one name, so that they cannot be told apart")
    return labels


# ── Out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Exported:
    """What a Hugging Face folder holds."""

    config: dict[str, Any]
    tokenizer: dict[str, Any]
    """`tokenizer_config.json`."""
    weights: dict[str, Tensor]


def as_theirs(loaded: folders.LoadedModel, path: Path) -> Exported:
    """Raises KotyaError for a model that none of their families is."""
    config, vocabulary = loaded.config, loaded.vocabularies[0]
    head, said = theirs_says(config, path)
    settings: BertConfig = config.model
    next_sentence = isinstance(config, MaskedLMFolder) and config.next_sentence
    family = family_of(config, head, vocabulary, path)
    ours = folders.weights(loaded.model)
    if head == "encoder" and family.model_type not in WITH_POOLER:
        ours = {name: tensor for name, tensor in ours.items() if ".pooler." not in name}
    ending = next(ending for ending, one in CLASSES.items() if one == head)
    content = {
        "architectures": [family.stem + ("ForPreTraining" if next_sentence else ending)],
        "model_type": family.model_type,
        "dtype": "float32",
        "vocab_size": len(vocabulary),
        "pad_token_id": vocabulary.pad,
        "bos_token_id": vocabulary.begin,
        "eos_token_id": vocabulary.end,
        **(
            {"cls_token_id": vocabulary.begin, "sep_token_id": vocabulary.end} if family is MODERNBERT else {}
        ),
        **family.content(settings, vocabulary.pad),
        **said,
    }
    weights = theirs_of(family, ours, settings, head, vocabulary.pad)
    longest = config.longest if isinstance(config, TunedFolder) else settings.max_length
    return Exported(content, tokenizer_config(vocabulary, settings, longest), weights)


def theirs_says(config: FolderConfig, path: Path) -> tuple[Head, dict[str, Any]]:
    """What stands on the encoder, and what their `config.json` says of its outputs."""
    match config:
        case EncoderFolder():
            return "encoder", {}
        case MaskedLMFolder():
            return "masked_lm", {}
        case ClassificationFolder(labels=[]):
            return "classification", {"problem_type": "regression", **_labels(["LABEL_0"])}
        case RelevanceFolder():
            return "classification", _labels(["LABEL_0"])
        case ClassificationFolder(labels=labels):
            return "classification", {"problem_type": "single_label_classification", **_labels(labels)}
        case TaggingFolder(labels=labels):
            return "tagging", _labels(labels)
    raise KotyaError(f"{path}: a model of the task {config.task}; written are encoders and their heads")


def _labels(names: list[str]) -> dict[str, Any]:
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def family_of(config: FolderConfig, head: Head, vocabulary: Vocabulary, path: Path) -> Family:
    """The first family that has all of a model. Only RoBERTa's and Longformer's pairs have two ends between them."""
    settings: BertConfig = config.model
    next_sentence = isinstance(config, MaskedLMFolder) and config.next_sentence
    single = head in ("masked_lm", "tagging") or getattr(config, "texts", None) == 1
    lacking = []
    for family in FAMILIES.values():
        lack: str | None
        if family in (ROBERTA, LONGFORMER) and vocabulary.separators != 2 and not single:
            lack = f"{vocabulary.separators} end between the texts of a pair"
        elif family not in (ROBERTA, LONGFORMER) and vocabulary.separators == 2:
            lack = "2 ends between the texts of a pair"
        elif next_sentence and family not in WITH_NEXT_SENTENCE:
            lack = "next-sentence prediction"
        else:
            # what says whether a sentence follows stands on the pooler
            lack = family.lacks(settings, "encoder" if next_sentence else head)
        if lack is None:
            return family
        lacking.append(f"{family.model_type}: {lack}")
    raise KotyaError(f"{path}: no family of Hugging Face's has such an encoder ({'; '.join(lacking)})")


def tokenizer_config(vocabulary: Vocabulary, settings: BertConfig, longest: int) -> dict[str, Any]:
    """How `transformers` is to read tokenizer.json, and how many pieces of a text."""
    segments = ["token_type_ids"] if settings.segments else []
    roles = {role: number for role, number in vocabulary.roles.items() if role in KEYS}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "model_input_names": ["input_ids", *segments, "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **{KEYS[role]: vocabulary.pieces([number])[0] for role, number in roles.items()},
    }
