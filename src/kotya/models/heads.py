"""What stands on a pretrained encoder for a task: one layer, on a text's pooled vector or on every token's.

Classification: p(label | text) = softmax(W dropout(pooled) + b); regression and relevance have one output and no
softmax; tagging: p(tag_i | text) = softmax(W dropout(h_i) + b) (Devlin et al. 2019, section 4 and figure 4).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.packed import Packing
from kotya.dropout import Dropout
from kotya.models.bert import Bert, Transform
from kotya.models.packed_layers import initialise


class SequenceModel(nn.Module):
    """An encoder and a head on the pooled vector of a text (or of a pair): classes, or one number."""

    def __init__(self, encoder: Bert, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = Dropout(encoder.config.dropout)
        self.head = nn.Linear(encoder.config.size, outputs)
        initialise(self.head, encoder.config.initial_std)

    def forward(
        self, ids: Int[Tensor, " tokens"], packing: Packing, segments: Int[Tensor, " tokens"] | None = None
    ) -> Float[Tensor, "sequences outputs"]:
        return self.answer(self.encoder.read(ids, packing, segments))

    def answer(self, pooled: Float[Tensor, "sequences size"]) -> Float[Tensor, "sequences outputs"]:
        """What the head makes of the vectors of texts."""
        # in float32 whatever the rest is in: scores that rank, and numbers, lie closer together than bfloat16 can tell
        weight, bias = self.head.weight.float(), self.head.bias.float()
        with torch.autocast(pooled.device.type, enabled=False):
            return F.linear(self.dropout(pooled).float(), weight, bias)


class TokenModel(nn.Module):
    """An encoder and a head on the vector of every token: tags."""

    def __init__(self, encoder: Bert, outputs: int) -> None:
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        # ModernBERT's tokens pass through what its pooled vectors do
        self.transform = Transform(config, "gelu", norm=True) if config.pooler == "gelu" else nn.Identity()
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(config.size, outputs)
        initialise(self.transform, config.initial_std)
        initialise(self.head, config.initial_std)

    def forward(
        self, ids: Int[Tensor, " tokens"], packing: Packing, segments: Int[Tensor, " tokens"] | None = None
    ) -> Float[Tensor, "tokens outputs"]:
        return self.answer(self.encoder(ids, packing, segments))

    def answer(self, hidden: Float[Tensor, "tokens size"]) -> Float[Tensor, "tokens outputs"]:
        """What the head makes of the vectors of tokens."""
        logits: Tensor = self.head(self.dropout(self.transform(hidden)))
        return logits
