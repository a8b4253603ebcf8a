"""Reads a MarianMT model (Junczys-Dowmunt et al. 2018, as Hugging Face stores it): Marian's Transformer is the paper's.

Its own ways: post-norm, sines in one half of the position vector and cosines in the other, a bias on the output,
a decoder that begins with the padding piece and never says it, and ids that `vocab.json` gives, not the
sentencepiece models.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from kotya.config import explain
from kotya.errors import KotyaError
from kotya.interop.sentencepiece import SentencePieceModel, build_tokenizer
from kotya.interop.stored import read_stored
from kotya.models.seq2seq import Seq2Seq
from kotya.models.transformer import TransformerConfig
from kotya.models.transformer_block import Activation
from kotya.search.config import SearchConfig
from kotya.text.vocabulary import Vocabulary

ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "gelu": "gelu", "swish": "swish", "silu": "swish"}


class MarianConfig(BaseModel):
    """What is read of `config.json`; the rest of it does not change what the model computes."""

    model_config = ConfigDict(extra="ignore")

    vocab_size: int
    decoder_vocab_size: int | None = None
    d_model: int
    encoder_layers: int
    decoder_layers: int
    encoder_attention_heads: int
    decoder_attention_heads: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    activation_function: str
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    scale_embedding: bool = False
    share_encoder_decoder_embeddings: bool = True
    tie_word_embeddings: bool = True
    normalize_before: bool = False
    normalize_embedding: bool = False
    add_final_layer_norm: bool = False
    static_position_embeddings: bool = True
    pad_token_id: int
    eos_token_id: int
    decoder_start_token_id: int
    bad_words_ids: list[list[int]] | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None


class TokenizerConfig(BaseModel):
    """What is read of `tokenizer_config.json`."""

    model_config = ConfigDict(extra="ignore")

    unk_token: str = "<unk>"
    separate_vocabs: bool = False


class GenerationConfig(BaseModel):
    """What is read of `generation_config.json`, which newer folders have; it overrides `config.json`."""

    model_config = ConfigDict(extra="ignore")

    bad_words_ids: list[list[int]] | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None


@dataclass(frozen=True)
class Marian:
    """A MarianMT folder, read."""

    config: TransformerConfig
    model: Seq2Seq
    source: Vocabulary
    target: Vocabulary
    banned: list[int]
    """Ids that the target never holds."""
    search: SearchConfig
    """How its makers search with it."""


def read_marian(folder: Path) -> Marian:
    """Raises KotyaError where a file is missing, broken, or asks for what kotya's Transformer does not do."""
    config = _read_json(folder / "config.json", MarianConfig)
    generation = _read_optional(folder / "generation_config.json", GenerationConfig)
    tokens = _read_optional(folder / "tokenizer_config.json", TokenizerConfig)
    source_size = config.vocab_size
    target_size = config.decoder_vocab_size or source_size
    if config.share_encoder_decoder_embeddings:
        target_size = source_size
    source_ids = _read_ids(folder / "vocab.json", source_size)
    target_ids = source_ids
    if tokens.separate_vocabs:
        target_ids = _read_ids(folder / "target_vocab.json", target_size)
    architecture = transformer_config(config, folder / "config.json")
    model = architecture.build(source_size, target_size)
    load_weights(model, folder / "model.safetensors", tied=config.tie_word_embeddings)
    banned = generation.bad_words_ids or config.bad_words_ids or []
    if any(len(words) != 1 for words in banned):
        raise KotyaError(f"{folder}: bad_words_ids of more than one piece are not read")
    return Marian(
        architecture,
        model.eval(),
        _vocabulary(folder / "source.spm", source_ids, tokens.unk_token, config),
        _vocabulary(folder / "target.spm", target_ids, tokens.unk_token, config),
        [words[0] for words in banned],
        _search(generation, config),
    )


def _search(*configs: "GenerationConfig | MarianConfig") -> SearchConfig:
    """What the first of the configs that says something says; where none does, kotya's own.

    Their `early_stopping` is the rule `first-beam`, "never" is `exact`; without it they stop by the rule `full-beam`.
    Raises KotyaError for a negative length penalty.
    """
    beam = next((config.num_beams for config in configs if config.num_beams), None)
    alpha = next((config.length_penalty for config in configs if config.length_penalty is not None), None)
    if alpha is not None and alpha < 0:
        raise KotyaError(f"length_penalty is {alpha:g}; read is 0 and more")
    early = next((config.early_stopping for config in configs if config.early_stopping is not None), False)
    stop = {True: "first-beam", False: "full-beam", "never": "exact"}[early]
    said = {"beam": beam, "length_penalty": alpha, "stop": stop}
    return SearchConfig.model_validate({key: value for key, value in said.items() if value is not None})


def transformer_config(config: MarianConfig, path: Path) -> TransformerConfig:
    """The same architecture in kotya's terms."""
    for ours, encoder, decoder in (
        ("heads", config.encoder_attention_heads, config.decoder_attention_heads),
        ("feed-forward size", config.encoder_ffn_dim, config.decoder_ffn_dim),
    ):
        if encoder != decoder:
            raise KotyaError(
                f"{path}: {ours} {encoder} in the encoder, {decoder} in the decoder: must be equal"
            )
    for key in ("normalize_before", "normalize_embedding", "add_final_layer_norm"):
        if getattr(config, key):
            raise KotyaError(f"{path}: {key} is not read; MarianMT models have it false")
    if not config.static_position_embeddings:
        raise KotyaError(f"{path}: learned positions are not read; MarianMT models have sinusoidal ones")
    if config.activation_function not in ACTIVATIONS:
        raise KotyaError(
            f"{path}: activation_function {config.activation_function!r}; {', '.join(ACTIVATIONS)} are read"
        )
    tied: Literal["all", "output"] = "all" if config.share_encoder_decoder_embeddings else "output"
    try:
        return TransformerConfig(
            size=config.d_model,
            heads=config.encoder_attention_heads,
            feed_forward=config.encoder_ffn_dim,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            feed_forward_dropout=config.activation_dropout,
            norm="post",
            activation=ACTIVATIONS[config.activation_function],
            positions="sinusoidal",
            position_layout="halves",
            share=tied if config.tie_word_embeddings else "none",
            output_bias=True,
            scale_embedding=config.scale_embedding,
        )
    except ValidationError as problem:
        raise KotyaError(f"{path}: {explain(problem, [TransformerConfig])[1]}") from None


def load_weights(model: Seq2Seq, path: Path, *, tied: bool) -> None:
    """Copy every weight of the file to its place in the model, in float32.

    Embeddings that are one are stored as `model.shared.weight` alone.
    """
    stored = read_stored(path)
    shared = stored.get("model.shared.weight")
    for name, parameter in model.named_parameters():
        theirs = marian_name(name, tied=tied)
        tensor = stored.get(theirs, shared if "embed_tokens" in theirs else None)
        if tensor is None and name == "decoder.output_bias":
            tensor = torch.zeros_like(parameter)
        if tensor is None:
            raise KotyaError(f"{path}: {theirs} is missing")
        _copy(tensor, parameter, theirs, path)


def _copy(tensor: Tensor, parameter: Tensor, name: str, path: Path) -> None:
    if name == "final_logits_bias":
        tensor = tensor.flatten()
    if tensor.shape != parameter.shape:
        wanted, found = (" × ".join(map(str, shape)) for shape in (parameter.shape, tensor.shape))
        raise KotyaError(f"{path}: {name} is {found}, but config.json makes it {wanted}")
    with torch.no_grad():
        parameter.copy_(tensor)


PLACES = {
    "attention_residual.norm": "self_attn_layer_norm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.out_proj",
    "cross_residual.norm": "encoder_attn_layer_norm",
    "cross.query": "encoder_attn.q_proj",
    "cross.key": "encoder_attn.k_proj",
    "cross.value": "encoder_attn.v_proj",
    "cross.output": "encoder_attn.out_proj",
    "feed_forward_residual.norm": "final_layer_norm",
    "feed_forward.inner": "fc1",
    "feed_forward.outer": "fc2",
}
"""kotya's name of a layer's part, and Marian's."""


def marian_name(name: str, *, tied: bool) -> str:
    """Where a weight of ours is in a Marian file: `encoder.layers.0.cross.key.bias` and so on."""
    if name == "decoder.output_bias":
        return "final_logits_bias"
    if name == "decoder.output_weight" and not tied:
        return "lm_head.weight"
    if name.endswith(("embedding.weight", "output_weight")):
        return f"model.{name.split('.')[0]}.embed_tokens.weight"
    side, layers, depth, *place, kind = name.split(".")
    return f"model.{side}.{layers}.{depth}.{PLACES['.'.join(place)]}.{kind}"


def _vocabulary(path: Path, ids: Mapping[str, int], unknown: str, config: MarianConfig) -> Vocabulary:
    if unknown not in ids:
        raise KotyaError(f"{path.parent}: the vocabulary lacks its unknown piece {unknown!r}")
    if not path.exists():
        raise KotyaError(f"{path}: no such file; a MarianMT folder has its sentencepiece model there")
    roles = {
        "pad": config.pad_token_id,
        "unknown": ids[unknown],
        "begin": config.decoder_start_token_id,
        "end": config.eos_token_id,
    }
    model = SentencePieceModel.read(path)
    tokenizer = build_tokenizer(model, ids, special=set(roles.values()), unknown=unknown)
    return Vocabulary(tokenizer, **roles, size=len(ids))


def _read_ids(path: Path, size: int) -> dict[str, int]:
    """Pieces to ids, which must be 0 … size-1, each once."""
    ids = read_json(path)
    if not all(isinstance(number, int) for number in ids.values()) or sorted(ids.values()) != list(
        range(size)
    ):
        raise KotyaError(
            f"{path}: its {len(ids)} ids are not 0 to {size - 1}, each once, as config.json says"
        )
    return ids


Read = TypeVar("Read", bound=BaseModel)


def _read_optional(path: Path, kind: type[Read]) -> Read:
    return _read_json(path, kind) if path.exists() else kind()


def _read_json(path: Path, kind: type[Read]) -> Read:
    content = read_json(path)
    try:
        return kind.model_validate(content)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise KotyaError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KotyaError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise KotyaError(f"{path}: not JSON ({problem})") from None
    if not isinstance(content, dict):
        raise KotyaError(f"{path}: not a JSON object")
    return content
