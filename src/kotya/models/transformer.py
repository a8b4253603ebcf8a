"""The Transformer (Vaswani et al. 2017): attention, feed-forward layers, residuals, layer norm, and nothing recurrent.

Its parts are in `transformer_block.py`; encoder and decoder stack them.
"""

from typing import Literal

from pydantic import Field, model_validator

from kotya.models.seq2seq import Seq2Seq, check_shared, embedding_weight
from kotya.models.transformer_block import BlockConfig, Embedding, check_layers
from kotya.models.transformer_decoder import TransformerDecoder
from kotya.models.transformer_encoder import TransformerEncoder


class TransformerConfig(BlockConfig):
    """A Transformer encoder–decoder."""

    kind: Literal["transformer"] = "transformer"
    encoder_layers: int = Field(3, ge=1)
    decoder_layers: int = Field(3, ge=1)
    share: Literal["all", "output", "none"] = "all"
    """One matrix for source, target and output (`all`, joint vocabularies only), for target and output, or none."""
    output_bias: bool = False

    @model_validator(mode="after")
    def _attention_of_every_layer(self) -> "TransformerConfig":
        check_layers(self.encoder_attention, self.encoder_layers, "encoder_attention")
        check_layers(self.decoder_attention, self.decoder_layers, "decoder_attention")
        check_layers(self.cross_attention, self.decoder_layers, "cross_attention")
        return self

    def build(self, source_size: int, target_size: int) -> Seq2Seq:
        """A model with fresh weights (Glorot and Bengio 2010) for vocabularies of these sizes."""
        check_shared(self.share, source_size, target_size)
        source = Embedding(self, embedding_weight(source_size, self.size))
        target = source if self.share == "all" else Embedding(self, embedding_weight(target_size, self.size))
        output = target.weight if self.share != "none" else embedding_weight(target_size, self.size)
        encoder = TransformerEncoder(source, self, self.encoder_layers)
        decoder = TransformerDecoder(target, output, self, self.decoder_layers, output_bias=self.output_bias)
        return Seq2Seq(encoder, decoder)


PRESETS: dict[str, TransformerConfig] = {
    "transformer-tiny": TransformerConfig(
        size=128, heads=4, feed_forward=512, encoder_layers=3, decoder_layers=3
    ),
    "transformer-small": TransformerConfig(
        size=256, heads=4, feed_forward=1024, encoder_layers=3, decoder_layers=3
    ),
    "transformer-base": TransformerConfig(
        size=512, heads=8, feed_forward=2048, encoder_layers=6, decoder_layers=6
    ),
    "transformer-big": TransformerConfig(
        size=1024, heads=16, feed_forward=4096, encoder_layers=6, decoder_layers=6, dropout=0.3
    ),
}
