"""A recurrent encoder."""

from typing import Literal

from pydantic import Field
from torch import nn

from kotya.config import Config
from kotya.models.seq2seq import CellKind, Encoder


class RNNEncoderConfig(Config):
    """A recurrent encoder."""

    kind: Literal["rnn"]
    cell: CellKind = "gru"
    size: int = Field(256, ge=1)
    """Width of a state, of each direction."""
    layers: int = Field(1, ge=1)
    embedding: int = Field(256, ge=1)
    """Width of the embeddings."""
    bidirectional: bool = False

    @property
    def embedding_size(self) -> int:
        return self.embedding

    def build(self, embedding: nn.Parameter, dropout: float) -> Encoder:
        raise NotImplementedError
