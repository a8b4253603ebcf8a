"""The next tokens worth a look: the best few of a vocabulary.

The CPU's own top-k and argmax read every logit one by one. Here the maximum of every block of the vocabulary is
found first, which is vectorised, and only the blocks with the highest maxima are looked into: the best k of all
stand in the k blocks of highest maximum.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 64


def top(
    logits: Float[Tensor, "rows vocabulary"], count: int
) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
    """The highest values of each row, highest first, and where they stand."""
    rows, vocabulary = logits.shape
    blocks = vocabulary // _BLOCK
    if logits.device.type != "cpu" or blocks < 4 * count:
        return logits.topk(count, dim=-1)
    whole = blocks * _BLOCK
    grid = logits[:, :whole].view(rows, blocks, _BLOCK)
    best = grid.amax(-1).topk(count, dim=-1, sorted=False).indices
    values = grid.gather(1, best[..., None].expand(-1, -1, _BLOCK)).flatten(1)
    places = (best[..., None] * _BLOCK + torch.arange(_BLOCK)).flatten(1)
    if whole < vocabulary:
        values = torch.cat([values, logits[:, whole:]], dim=1)
        rest = torch.arange(whole, vocabulary).expand(rows, -1)
        places = torch.cat([places, rest], dim=1)
    values, chosen = values.topk(count, dim=-1)
    return values, places.gather(1, chosen)


def best(logits: Float[Tensor, "rows vocabulary"]) -> Int[Tensor, " rows"]:
    """The argmax of each row."""
    rows, vocabulary = logits.shape
    blocks = vocabulary // _BLOCK
    if logits.device.type != "cpu" or blocks < 4:
        return logits.argmax(-1)
    whole = blocks * _BLOCK
    grid = logits[:, :whole].view(rows, blocks, _BLOCK)
    maxima = grid.amax(-1)
    block = maxima.argmax(-1)
    inside = grid[torch.arange(rows), block].argmax(-1)
    place: Tensor = block * _BLOCK + inside
    if whole == vocabulary:
        return place
    rest, rest_place = logits[:, whole:].max(-1)
    # as argmax, it takes a NaN for the highest
    return torch.where((rest > maxima.amax(-1)) | rest.isnan(), rest_place + whole, place)
