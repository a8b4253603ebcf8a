"""Any encoder with any decoder: the cells of the lecture's table, RNN, CNN and Transformer on either side.

model:
  kind: seq2seq
  encoder: {kind: rnn, cell: gru, bidirectional: true}
  decoder: {kind: transformer, layers: 3}
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kotya.config import Config, DropoutRate, wrong
from kotya.models.bahdanau import BahdanauDecoderConfig
from kotya.models.cnn_decoder import CNNDecoderConfig
from kotya.models.cnn_encoder import CNNEncoderConfig
from kotya.models.luong import LuongDecoderConfig
from kotya.models.rnn_decoder import RNNDecoderConfig
from kotya.models.rnn_encoder import RNNEncoderConfig
from kotya.models.seq2seq import Seq2Seq, check_shared, embedding_weight
from kotya.models.transformer import PRESETS as TRANSFORMERS
from kotya.models.transformer import TransformerConfig
from kotya.models.transformer_decoder import TransformerDecoderConfig
from kotya.models.transformer_encoder import TransformerEncoderConfig

# A part's config builds it:
#   encoder: build(embedding, dropout) -> Encoder, whose `shape` says what its memories are like
#   decoder: build(embedding, output, memory_shape, dropout) -> Decoder
# and says how wide its embeddings (`embedding_size`) and, a decoder, its hidden vectors (`output_size`) are.
EncoderConfig = Annotated[
    RNNEncoderConfig | CNNEncoderConfig | TransformerEncoderConfig, Field(discriminator="kind")
]
DecoderConfig = Annotated[
    RNNDecoderConfig
    | LuongDecoderConfig
    | BahdanauDecoderConfig
    | CNNDecoderConfig
    | TransformerDecoderConfig,
    Field(discriminator="kind"),
]


class ComposedConfig(Config):
    """An encoder and a decoder, each of its own kind."""

    kind: Literal["seq2seq"]
    encoder: EncoderConfig
    decoder: DecoderConfig
    share: Literal["all", "output", "none"] = "none"
    """One matrix for source, target and output (`all`, joint vocabularies only), for target and output, or none."""
    dropout: DropoutRate = 0.1
    """On embeddings, between layers and on what the output is computed from, in both parts."""

    @model_validator(mode="after")
    def _shared_matrices_fit(self) -> "ComposedConfig":
        source, target = self.encoder.embedding_size, self.decoder.embedding_size
        if self.share == "all" and source != target:
            message = f"all needs embeddings of one size; the encoder's is {source}, the decoder's {target}"
            raise wrong(("share",), message, self.share)
        if self.share != "none" and target != self.decoder.output_size:
            message = (
                f"{self.share} needs target embeddings ({target}) as wide as what the output is computed from "
                f"({self.decoder.output_size})"
            )
            raise wrong(("share",), message, self.share)
        return self

    def build(self, source_size: int, target_size: int) -> Seq2Seq:
        """A model with fresh weights for vocabularies of these sizes."""
        check_shared(self.share, source_size, target_size)
        source = embedding_weight(source_size, self.encoder.embedding_size)
        target = source if self.share == "all" else embedding_weight(target_size, self.decoder.embedding_size)
        output = target if self.share != "none" else embedding_weight(target_size, self.decoder.output_size)
        encoder = self.encoder.build(source, self.dropout)
        decoder = self.decoder.build(target, output, encoder.shape, self.dropout)
        return Seq2Seq(encoder, decoder)


ModelConfig = Annotated[TransformerConfig | ComposedConfig, Field(discriminator="kind")]


def _recurrent(encoder: dict[str, Any], decoder: dict[str, Any], **rest: Any) -> ComposedConfig:
    return ComposedConfig.model_validate(
        {"kind": "seq2seq", "encoder": {"kind": "rnn", **encoder}, "decoder": decoder, **rest}
    )


def _luong(score: str) -> ComposedConfig:
    """Two layers of LSTM on either side, one direction, attention over all of the source."""
    sizes = {"cell": "lstm", "size": 512, "layers": 2}
    return _recurrent(sizes, {"kind": "luong", **sizes, "score": score}, dropout=0.2)


PRESETS: dict[str, TransformerConfig | ComposedConfig] = {
    **TRANSFORMERS,
    "rnn": _recurrent(
        {"cell": "lstm", "size": 512, "layers": 2, "reverse_source": True},
        {"kind": "rnn", "cell": "lstm", "size": 512, "layers": 2},
        dropout=0.2,
    ),
    "bahdanau": _recurrent(
        {"cell": "gru", "size": 256, "bidirectional": True},
        {"kind": "bahdanau", "cell": "gru", "size": 512, "score": "mlp"},
        share="output",
        dropout=0.2,
    ),
    "luong-dot": _luong("dot"),
    "luong-bilinear": _luong("bilinear"),
    "luong-mlp": _luong("mlp"),
    "cnn": ComposedConfig.model_validate(
        {
            "kind": "seq2seq",
            "encoder": {"kind": "cnn", "layers": 6},
            "decoder": {"kind": "cnn", "layers": 4},
            "share": "all",
            "dropout": 0.2,
        }
    ),
}
