"""The vocabulary of an encoder's Hugging Face folder: its `tokenizer.json`, or the files of before there was one.

The ids stay theirs. Pieces that were added behind the vocabulary become part of it, and ids that no piece has (matrices
are often padded) get pieces that no text can hold.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from kotya.errors import KotyaError
from kotya.interop.marian import read_json
from kotya.interop.sentencepiece import CONTROL, UNKNOWN, SentencePieceModel, build_tokenizer
from kotya.text.vocabulary import Vocabulary

KEYS = {
    "pad": "pad_token",
    "unknown": "unk_token",
    "begin": "cls_token",
    "end": "sep_token",
    "mask": "mask_token",
}
"""Our roles, and what their files call them."""
BERT_NAMES = {"pad": "[PAD]", "unknown": "[UNK]", "begin": "[CLS]", "end": "[SEP]", "mask": "[MASK]"}
ROBERTA_NAMES = {"pad": "<pad>", "unknown": "<unk>", "begin": "<s>", "end": "</s>", "mask": "<mask>"}
BIG_BIRD_NAMES = BERT_NAMES | {"pad": "<pad>", "unknown": "<unk>"}
SEPARATORS = {"roberta": 2, "longformer": 2}
"""Ends between the two texts of a pair, where they are not one: RoBERTa and what was made of it."""


def read_vocabulary(folder: Path, model_type: str, size: int) -> Vocabulary:
    """That of a model with `size` pieces. Raises KotyaError where files are missing, or another model's."""
    content = _content(folder, model_type)
    kind = content["model"].get("type")
    if kind not in ("WordPiece", "BPE", "Unigram"):
        raise KotyaError(f"{folder}: a tokenizer of type {kind}; WordPiece, BPE and Unigram are read")
    ids = _every_id(content, folder)
    if max(ids.values()) >= size:
        raise KotyaError(
            f"{folder}: its tokenizer has ids up to {max(ids.values()):,}, but the model's matrix has {size:,} rows: "
            "these files do not belong together"
        )
    roles = {}
    for role, name in _names(folder, model_type).items():
        if name not in ids:
            raise KotyaError(f"{folder}: its tokenizer has no piece {name!r}, its {KEYS[role]}")
        roles[role] = ids[name]
    missing = set(range(size)) - set(ids.values())
    if len(missing) > size // 2:  # a padded matrix has a few rows too many
        raise KotyaError(
            f"{folder}: its tokenizer has {size - len(missing):,} pieces, but the model's matrix has {size:,} rows: "
            "these files do not belong together"
        )
    ids |= {f"[no piece {number}]": number for number in sorted(missing)}
    content["model"]["vocab"] = _with_scores(content["model"]["vocab"], ids) if kind == "Unigram" else ids
    tokenizer = Tokenizer.from_str(json.dumps(content))
    return Vocabulary(tokenizer, **roles, separators=SEPARATORS.get(model_type, 1))


def _with_scores(known: list[list[Any]], ids: dict[str, int]) -> list[list[Any]]:
    """Every piece with its log-probability: of those that were added the best, for the worst prices the unknown."""
    scores = dict(map(tuple, known))
    best = max(scores.values())
    return [[piece, scores.get(piece, best)] for piece in sorted(ids, key=ids.__getitem__)]


def _content(folder: Path, model_type: str) -> dict[str, Any]:
    """What is, or would be, in `tokenizer.json`."""
    if (folder / "tokenizer.json").exists():
        content = read_json(folder / "tokenizer.json")
        _check(content, folder / "tokenizer.json")
        return _overridden(content, _settings(folder))
    if (folder / "spiece.model").exists():
        return _as_content(_sentencepiece(folder, model_type))
    if (folder / "vocab.txt").exists():
        return _with_added(_as_content(_wordpiece(folder)), folder)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        return _with_added(_as_content(_byte_level(folder)), folder)
    wanted = "vocab.json and merges.txt" if model_type in SEPARATORS else "vocab.txt"
    wanted = "spiece.model" if model_type == "big_bird" else wanted
    raise KotyaError(f"{folder}: there is no tokenizer.json, nor {wanted}")


def _overridden(content: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What is in `tokenizer.json`, and what their classes let `tokenizer_config.json` say against it."""
    name = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    normalizer, cutter = content.get("normalizer") or {}, content.get("pre_tokenizer") or {}
    if name in ("BertTokenizer", "DistilBertTokenizer") and normalizer.get("type") == "BertNormalizer":
        changed = {
            "lowercase": settings.get("do_lower_case", True),
            "strip_accents": settings.get("strip_accents"),
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
        }
        return content | {"normalizer": normalizer | changed}
    if name == "RobertaTokenizer" and cutter.get("type") == "ByteLevel":
        prefix = settings.get("add_prefix_space", False)
        return content | {"pre_tokenizer": cutter | {"add_prefix_space": prefix}}
    return content


def read_length(folder: Path, longest: int) -> int | None:
    """How many pieces of a text `tokenizer_config.json` says are read, where that is less than the model can."""
    said = _settings(folder).get("model_max_length")
    return int(said) if isinstance(said, int | float) and 0 < said < longest else None


def _with_added(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """With the pieces that were added behind the vocabulary, where `tokenizer.json` does not list them.

    `tokenizer_config.json` says how each is found; where it is silent, those of `added_tokens.json` are found anywhere
    in the normalized text, as by their classes.
    """
    path = folder / "added_tokens.json"
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    known = _settings(folder).get("added_tokens_decoder")
    if known is None and path.exists():
        known = {number: {"content": name} for name, number in read_json(path).items()}
    try:
        added = [flags | one | {"id": int(number)} for number, one in (known or {}).items()]
    except (AttributeError, TypeError, ValueError) as error:
        raise KotyaError(f"{folder}: no ids or no settings of added tokens ({error})") from None
    content = content | {"added_tokens": sorted(added, key=lambda one: one["id"])}
    _check(content, folder)
    return content


def _check(content: dict[str, Any], path: Path) -> None:
    try:
        Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises bare Exception for every malformed file
        raise KotyaError(f"{path}: no tokenizer ({error})") from None


def _as_content(tokenizer: Tokenizer) -> dict[str, Any]:
    content = json.loads(tokenizer.to_str())
    assert isinstance(content, dict)
    return content


def _wordpiece(folder: Path) -> Tokenizer:
    """BERT's own files."""
    settings = _settings(folder)
    try:
        with (folder / "vocab.txt").open(
            encoding="utf-8"
        ) as lines:  # splitlines would end them at U+2028 too
            pieces = {line.rstrip("\n"): number for number, line in enumerate(lines)}
    except UnicodeDecodeError as error:
        raise KotyaError(
            f"{folder / 'vocab.txt'}: not UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token=BERT_NAMES["unknown"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _byte_level(folder: Path) -> Tokenizer:
    """RoBERTa's own files."""
    try:
        table = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises bare Exception for every malformed file
        raise KotyaError(f"{folder}: vocab.json and merges.txt are no tokenizer ({error})") from None
    tokenizer = Tokenizer(table)
    prefix = _settings(folder).get("add_prefix_space", False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(folder: Path, model_type: str) -> Tokenizer:
    """BigBird's own file."""
    model = SentencePieceModel.read(folder / "spiece.model")
    ids = {piece.text: number for number, piece in enumerate(model.pieces)}
    special = {ids[piece.text] for piece in model.pieces if piece.kind in (CONTROL, UNKNOWN)}
    return build_tokenizer(model, ids, special=special, unknown=_names(folder, model_type)["unknown"])


def _every_id(content: dict[str, Any], folder: Path) -> dict[str, int]:
    """Of pieces of the model and of those that were added."""
    pieces = content["model"]["vocab"]
    if content["model"]["type"] == "Unigram":
        pieces = {piece: number for number, (piece, _) in enumerate(pieces)}
    ids: dict[str, int] = dict(pieces)
    for one in content.get("added_tokens") or []:
        if ids.setdefault(one["content"], one["id"]) != one["id"]:
            raise KotyaError(f"{folder}: the piece {one['content']!r} has two ids in its tokenizer")
    return ids


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.exists() else {}


def _names(folder: Path, model_type: str) -> dict[str, str]:
    """What plays which part: as the files say, else as its paper's does."""
    names = dict(ROBERTA_NAMES if model_type in SEPARATORS else BERT_NAMES)
    names = dict(BIG_BIRD_NAMES) if model_type == "big_bird" else names
    path = folder / "special_tokens_map.json"
    for said in (read_json(path) if path.exists() else {}, _settings(folder)):
        for role, key in KEYS.items():
            token = said.get(key)
            name = token.get("content") if isinstance(token, dict) else token
            if isinstance(name, str):
                names[role] = name
    return names
