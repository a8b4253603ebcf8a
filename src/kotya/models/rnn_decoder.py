"""A recurrent decoder."""

from typing import Literal

from pydantic import Field
from torch import nn

from kotya.config import Config
from kotya.models.seq2seq import CellKind, Decoder, MemoryShape


class RNNDecoderConfig(Config):
    """A recurrent decoder."""

    kind: Literal["rnn"]
    cell: CellKind = "gru"
    size: int = Field(256, ge=1)
    """Width of a state."""
    layers: int = Field(1, ge=1)
    embedding: int = Field(256, ge=1)
    """Width of the embeddings."""

    @property
    def embedding_size(self) -> int:
        return self.embedding

    @property
    def output_size(self) -> int:
        return self.size

    def build(
        self, embedding: nn.Parameter, output: nn.Parameter, memory: MemoryShape, dropout: float
    ) -> Decoder:
        raise NotImplementedError
