"""ModernBERT (Warner et al. 2024), as Hugging Face stores it: query, key and value are one matrix, and so are the two
that come before its gate.

What is between hidden vectors and the output is one `head`, of texts, of tokens and of masked positions alike.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from kotya.attention.choices import EVERYTHING
from kotya.errors import KotyaError
from kotya.interop.family import POOLED, Family, Head, Place, build_settings, only, tying, validated
from kotya.models.bert import BertConfig

GATES = {"gelu": "geglu", "silu": "swiglu"}
POOLING = {"cls": "first", "mean": "mean"}
FULL, SLIDING = "full_attention", "sliding_attention"


class ModernBertJson(BaseModel):
    """What is read of `config.json`; releases of transformers name rotary bases and global layers in two ways."""

    model_config = ConfigDict(extra="ignore")

    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: int = 8192
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    decoder_bias: bool = True
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    classifier_pooling: str = "cls"
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0
    mlp_dropout: float = 0.0
    tie_word_embeddings: bool = True
    local_attention: int = 128
    global_attn_every_n_layers: int = 3
    layer_types: list[str] | None = None
    global_rope_theta: float = 160_000.0
    local_rope_theta: float | None = 10_000.0
    rope_parameters: dict[str, dict[str, Any]] | None = None

    def base(self, kind: str, otherwise: float) -> float:
        """The base of rotary positions in layers of a kind."""
        return float(((self.rope_parameters or {}).get(kind) or {}).get("rope_theta", otherwise))

    def every(self) -> int | None:
        """The first of so many layers is global; None where all are."""
        if self.layer_types is None:
            return self.global_attn_every_n_layers
        return global_every(self.layer_types)


def global_every(kinds: list[str]) -> int | None:
    """Of a list of layer kinds; 0 where they follow no such rule."""
    if SLIDING not in kinds:
        return None
    for every in range(2, len(kinds) + 1):
        if kinds == layer_types(len(kinds), every):
            return every
    return 0


def layer_types(layers: int, every: int) -> list[str]:
    return [SLIDING if depth % every else FULL for depth in range(layers)]


# Names of ours, and where they are among theirs.
PLACES = {
    "embedding.tokens": Place("embeddings.tok_embeddings.weight"),
    "embedding.norm": Place("embeddings.norm"),
    "norm": Place("final_norm"),
    "attention.query": Place("attn.Wqkv", 0, 3),
    "attention.key": Place("attn.Wqkv", 1, 3),
    "attention.value": Place("attn.Wqkv", 2, 3),
    "attention.output": Place("attn.Wo"),
    "attention_residual.norm": Place("attn_norm"),
    "feed_forward.gate": Place("mlp.Wi", 0, 2),
    "feed_forward.inner": Place("mlp.Wi", 1, 2),
    "feed_forward.outer": Place("mlp.Wo"),
    "feed_forward_residual.norm": Place("mlp_norm"),
}

HEADS = {
    "encoder.pooler.dense": "head.dense",
    "encoder.pooler.norm": "head.norm",
    "transform.dense": "head.dense",
    "transform.norm": "head.norm",
    "output_bias": "decoder.bias",
    "head": "classifier",
}


class _ModernBert(Family):
    model_type = "modernbert"
    prefix = "model."
    stem = "ModernBert"

    def settings(self, content: dict[str, Any], head: Head, path: Path) -> BertConfig:
        found = validated(ModernBertJson, content, path)
        only(
            path, found, hidden_activation=GATES, classifier_activation=("gelu",), classifier_pooling=POOLING
        )
        only(path, found, norm_bias=(False,), attention_bias=(False,), mlp_bias=(False,))
        only(path, found, classifier_bias=(False,), decoder_bias=(True,), tie_word_embeddings=tying(head))
        for kind, rope in (found.rope_parameters or {}).items():
            if rope.get("rope_type", "default") != "default":
                raise KotyaError(
                    f"{path}: rope_parameters of {kind} are {rope['rope_type']!r}; read is 'default'"
                )
        every = found.every()
        if every == 0:
            raise KotyaError(f"{path}: layer_types: read are layers of which the first of so many is global")
        return build_settings(
            path,
            size=found.hidden_size,
            heads=found.num_attention_heads,
            layers=found.num_hidden_layers,
            feed_forward=found.intermediate_size,
            activation=GATES[found.hidden_activation],
            dropout=found.embedding_dropout,
            attention_dropout=found.attention_dropout,
            feed_forward_dropout=found.mlp_dropout,
            max_length=found.max_position_embeddings,
            norm="pre",
            bias=False,
            positions="rotary",
            rotary_base=found.base(FULL, found.global_rope_theta),
            local=None if every is None else found.local_attention,
            global_every=every or 3,
            local_rotary_base=found.base(SLIDING, found.local_rope_theta or found.global_rope_theta),
            norm_epsilon=found.norm_eps,
            segments=0,
            pooler="gelu",
            pooling=POOLING[found.classifier_pooling],
        )

    def place(self, name: str, model: BertConfig, head: Head, pad: int) -> Place:
        if name in HEADS:
            return Place(HEADS[name])
        part, _, kind = name.rpartition(".")
        if part in HEADS:
            return Place(f"{HEADS[part]}.{kind}")
        encoder = name.removeprefix("encoder.")
        if encoder in PLACES:
            return Place(self.prefix + PLACES[encoder].name)
        where = self.prefix
        if encoder.startswith("layers."):
            _, depth, encoder = encoder.split(".", 2)
            where += f"layers.{depth}."
        part, _, kind = encoder.rpartition(".")
        place = PLACES[part]
        return Place(f"{where}{place.name}.{kind}", place.part, place.parts)

    def lacks(self, model: BertConfig, head: Head) -> str | None:
        expected = {
            "norm": "pre",
            "normalization": "layer",
            "positions": "rotary",
            "bias": False,
            "segments": 0,
            **({"pooler": "gelu"} if head in POOLED else {}),
            "attention": EVERYTHING,
        }
        for key, value in expected.items():
            if getattr(model, key) != value:
                return f"{key} {getattr(model, key)}"
        return None if model.activation in GATES.values() else f"activation {model.activation}"

    def content(self, model: BertConfig, pad: int) -> dict[str, Any]:
        every = 1 if model.local is None else model.global_every
        return {
            "hidden_size": model.size,
            "num_hidden_layers": model.layers,
            "num_attention_heads": model.heads,
            "intermediate_size": model.feed_forward,
            "hidden_activation": next(theirs for theirs, ours in GATES.items() if ours == model.activation),
            "embedding_dropout": model.dropout,
            "attention_dropout": model.attention_dropout,
            "mlp_dropout": model.feed_forward_dropout,
            "max_position_embeddings": model.max_length,
            "norm_eps": model.norm_epsilon,
            "local_attention": model.local or model.max_length,
            "layer_types": layer_types(model.layers, every),
            "rope_parameters": {
                FULL: {"rope_type": "default", "rope_theta": model.rotary_base},
                SLIDING: {"rope_type": "default", "rope_theta": model.local_rotary_base},
            },
            "classifier_pooling": next(theirs for theirs, ours in POOLING.items() if ours == model.pooling),
        }


MODERNBERT: Family = _ModernBert()
