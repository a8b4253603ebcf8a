"""BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019) and DistilBERT (Sanh et al. 2019), as Hugging Face stores them.

All three are BERT's encoder. RoBERTa counts positions from the padding piece's id on, so that its first rows are never
read; DistilBERT has no segments and a pooler with relu, which stands among its classifier's weights, as RoBERTa's does.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from kotya.attention.choices import EVERYTHING, LayersAttention
from kotya.interop.family import (
    ACTIVATIONS,
    POOLED,
    Family,
    Head,
    Place,
    build_settings,
    only,
    tying,
    validated,
)
from kotya.models.bert import BertConfig
from kotya.models.transformer_block import Activation


class BertJson(BaseModel):
    """What is read of a BERT's or RoBERTa's `config.json`."""

    model_config = ConfigDict(extra="ignore")

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    position_embedding_type: str | None = "absolute"
    pad_token_id: int | None = None
    is_decoder: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True


class DistilBertJson(BaseModel):
    """What is read of a DistilBERT's."""

    model_config = ConfigDict(extra="ignore")

    dim: int = 768
    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    max_position_embeddings: int = 512
    tie_word_embeddings: bool = True


# Names of ours, and theirs.
_EMBEDDINGS = {
    "tokens": "word_embeddings.weight",
    "segments": "token_type_embeddings.weight",
    "positions": "position_embeddings",
    "norm": "LayerNorm",
}
PARTS = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_residual.norm": "attention.output.LayerNorm",
    "feed_forward.inner": "intermediate.dense",
    "feed_forward.outer": "output.dense",
    "feed_forward_residual.norm": "output.LayerNorm",
}

HEADS = {
    "encoder.pooler.dense": "bert.pooler.dense",
    "transform.dense": "cls.predictions.transform.dense",
    "transform.norm": "cls.predictions.transform.LayerNorm",
    "output_bias": "cls.predictions.bias",
    "next_sentence": "cls.seq_relationship",
    "head": "classifier",
}

ROBERTA_HEADS = {
    "encoder.pooler.dense": "roberta.pooler.dense",
    "transform.dense": "lm_head.dense",
    "transform.norm": "lm_head.layer_norm",
    "output_bias": "lm_head.bias",
    "head": "classifier",
}

_DISTILBERT_PARTS = {
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.output": "attention.out_lin",
    "attention_residual.norm": "sa_layer_norm",
    "feed_forward.inner": "ffn.lin1",
    "feed_forward.outer": "ffn.lin2",
    "feed_forward_residual.norm": "output_layer_norm",
}

_DISTILBERT_HEADS = {
    "encoder.pooler.dense": "pre_classifier",
    "transform.dense": "vocab_transform",
    "transform.norm": "vocab_layer_norm",
    "output_bias": "vocab_projector.bias",
    "head": "classifier",
}


class _Encoder(Family):
    """Where its weights are, by its tables."""

    layer: str
    parts: dict[str, str]
    heads: dict[str, str]
    global_projections = False

    def attention(self, model: BertConfig) -> LayersAttention:
        """What this family's models attend by, at the sizes of this one."""
        return EVERYTHING

    def place(self, name: str, model: BertConfig, head: Head, pad: int) -> Place:
        encoder = name.removeprefix("encoder.")
        if encoder == name or encoder.startswith("pooler."):
            return Place(self._outside(name, head))
        if encoder.startswith("embedding."):
            return Place(
                self.prefix + "embeddings." + exchanged(encoder.removeprefix("embedding."), _EMBEDDINGS)
            )
        _, depth, part = encoder.split(".", 2)
        return Place(f"{self.prefix}{self.layer}.{depth}.{exchanged(part, self.parts)}")

    def _outside(self, name: str, head: Head) -> str:
        return exchanged(name, self.heads)

    def activations(self, head: Head) -> dict[str, Activation]:
        """Those that are read: the layers' is that of the head for masked positions too, where ours is gelu."""
        return {"gelu": "gelu"} if head == "masked_lm" else ACTIVATIONS

    def not_published(self, model: BertConfig, head: Head, pooler: str) -> str | None:
        """What a model has that none of the three knows."""
        expected = {
            "norm": "post",
            "normalization": "layer",
            "positions": "learned",
            "bias": True,
            "local": None,
            "pooling": "first",
            **({"pooler": pooler} if head in POOLED else {}),
            "attention": self.attention(model),
            "global_projections": self.global_projections,
        }
        for key, value in expected.items():
            if getattr(model, key) != value:
                return f"{key} {getattr(model, key)}"
        known = model.activation in self.activations(head).values()
        return None if known else f"activation {model.activation}"


def exchanged(name: str, table: dict[str, str]) -> str:
    """A name with its beginning as the table has it."""
    if name in table:
        return table[name]
    part, _, kind = name.rpartition(".")
    return f"{table[part]}.{kind}"


class PlainBert(_Encoder):
    """BERT itself; others are made of it."""

    model_type = "bert"
    prefix = "bert."
    stem = "Bert"
    layer = "encoder.layer"
    parts = PARTS
    heads = HEADS

    def settings(self, content: dict[str, Any], head: Head, path: Path) -> BertConfig:
        found = validated(BertJson, content, path)
        only(path, found, hidden_act=self.activations(head), position_embedding_type=("absolute", None))
        only(path, found, is_decoder=(False,), add_cross_attention=(False,))
        only(path, found, tie_word_embeddings=tying(head))
        return build_settings(
            path,
            size=found.hidden_size,
            heads=found.num_attention_heads,
            layers=found.num_hidden_layers,
            feed_forward=found.intermediate_size,
            activation=self.activations(head)[found.hidden_act],
            dropout=found.hidden_dropout_prob,
            attention_dropout=found.attention_probs_dropout_prob,
            max_length=found.max_position_embeddings - self.skipped(found.pad_token_id or 0),
            segments=found.type_vocab_size,
            norm_epsilon=found.layer_norm_eps,
        )

    def skipped(self, pad: int) -> int:
        """Rows of the position embeddings that are never read."""
        return 0

    def lacks(self, model: BertConfig, head: Head) -> str | None:
        if not model.segments:
            return "no segments"
        return self.not_published(model, head, "tanh")

    def content(self, model: BertConfig, pad: int) -> dict[str, Any]:
        return {
            "hidden_size": model.size,
            "num_hidden_layers": model.layers,
            "num_attention_heads": model.heads,
            "intermediate_size": model.feed_forward,
            "hidden_act": _theirs(model.activation),
            "hidden_dropout_prob": model.dropout,
            "attention_probs_dropout_prob": model.attention_dropout,
            "max_position_embeddings": model.max_length + self.skipped(pad),
            "type_vocab_size": model.segments,
            "layer_norm_eps": model.norm_epsilon,
            "position_embedding_type": "absolute",
        }


class Roberta(PlainBert):
    model_type = "roberta"
    prefix = "roberta."
    stem = "Roberta"
    heads = ROBERTA_HEADS

    def settings(self, content: dict[str, Any], head: Head, path: Path) -> BertConfig:
        return super().settings({"pad_token_id": 1, **content}, head, path)

    def activations(self, head: Head) -> dict[str, Activation]:
        return ACTIVATIONS  # its head for masked positions has gelu whatever the layers have

    def skipped(self, pad: int) -> int:
        return pad + 1

    def place(self, name: str, model: BertConfig, head: Head, pad: int) -> Place:
        place = super().place(name, model, head, pad)
        if name == "encoder.embedding.positions.weight":
            return Place(place.name, skipped=self.skipped(pad))
        return place

    def _outside(self, name: str, head: Head) -> str:
        classifier = {"encoder.pooler.dense": "classifier.dense", "head": "classifier.out_proj"}
        return exchanged(name, self.heads | (classifier if head == "classification" else {}))


class _DistilBert(_Encoder):
    model_type = "distilbert"
    prefix = "distilbert."
    stem = "DistilBert"
    layer = "transformer.layer"
    parts = _DISTILBERT_PARTS
    heads = _DISTILBERT_HEADS

    def settings(self, content: dict[str, Any], head: Head, path: Path) -> BertConfig:
        found = validated(DistilBertJson, content, path)
        only(path, found, activation=self.activations(head), tie_word_embeddings=tying(head))
        return build_settings(
            path,
            size=found.dim,
            heads=found.n_heads,
            layers=found.n_layers,
            feed_forward=found.hidden_dim,
            activation=ACTIVATIONS[found.activation],
            dropout=found.dropout,
            attention_dropout=found.attention_dropout,
            max_length=found.max_position_embeddings,
            segments=0,
            pooler="relu",
        )

    def lacks(self, model: BertConfig, head: Head) -> str | None:
        if model.segments:
            return "segments"
        if model.norm_epsilon != 1e-12:
            return f"norm_epsilon {model.norm_epsilon}"
        return self.not_published(model, head, "relu")

    def content(self, model: BertConfig, pad: int) -> dict[str, Any]:
        return {
            "dim": model.size,
            "n_layers": model.layers,
            "n_heads": model.heads,
            "hidden_dim": model.feed_forward,
            "activation": _theirs(model.activation),
            "dropout": model.dropout,
            "attention_dropout": model.attention_dropout,
            "max_position_embeddings": model.max_length,
            "sinusoidal_pos_embds": False,
        }


def _theirs(activation: str) -> str:
    return {"swish": "silu", "gelu_tanh": "gelu_new"}.get(activation, activation)


BERT: Family = PlainBert()
ROBERTA: Family = Roberta()
DISTILBERT: Family = _DistilBert()
