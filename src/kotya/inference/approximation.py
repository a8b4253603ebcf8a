"""How far FAVOR+ is from softmax, against the number of its random features: for a picture.

Queries and keys are drawn as normal vectors, so long that the logits of softmax have the standard deviation that is
asked for. An error is the share of a query's weight that FAVOR+ puts on keys where softmax does not have it, half of
Σ_j |a_j - â_j|, in the mean over a text; 0 is softmax, 1 has nothing in common with it. Of several draws of texts and
of features: the median, with the quartiles.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kotya.attention.features import Favor, orthogonal
from kotya.attention.linear import attend_linear
from kotya.pictures.lengths import Curve

SPREADS = (0.1, 0.3, 1.0)
"""Standard deviations of the logits: the greater, the sharper the attention."""

Draw = Callable[[int, int], Float[Tensor, "pairs size"]]


def by_spread(features: Sequence[int], length: int, size: int, draws: int, seed: int) -> list[Curve]:
    """A curve a spread of the logits, with orthogonal features."""
    return [
        _curve(f"logits ± {spread:g}", orthogonal, spread, features, length, size, draws, seed)
        for spread in SPREADS
    ]


def by_drawing(features: Sequence[int], length: int, size: int, draws: int, seed: int) -> list[Curve]:
    """Orthogonal features, and independent ones, of the same texts."""
    kinds: dict[str, Draw] = {"orthogonal": orthogonal, "independent": torch.randn}
    return [
        _curve(name, draw, SPREADS[1], features, length, size, draws, seed) for name, draw in kinds.items()
    ]


def _curve(
    name: str,
    draw: Draw,
    spread: float,
    features: Sequence[int],
    length: int,
    size: int,
    draws: int,
    seed: int,
) -> Curve:
    quartiles = []
    for count in features:
        errors = errors_of(draw, spread, count, length=length, size=size, draws=draws, seed=seed)
        quartiles.append(errors.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist())
    low, middle, high = zip(*quartiles, strict=True)
    return Curve(name, features, middle, low, high)


def errors_of(
    draw: Draw, spread: float, features: int, *, length: int, size: int, draws: int, seed: int
) -> Float[Tensor, " draws"]:
    """A draw each; the texts of a seed are the same for every number of features."""
    found = []
    values = torch.eye(length)[None, :, None]  # so that the output is the weights
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        for number in range(draws):
            torch.default_generator.manual_seed(seed + number)
            query, key = (torch.randn(2, 1, length, 1, size) * spread**0.5).unbind()
            favor = Favor(size, features)
            favor.omega.copy_(draw(*favor.omega.shape))
            exact = (query[0, :, 0] @ key[0, :, 0].T / size**0.5).softmax(1)
            ours = attend_linear(query, key, values, favor)[0, :, 0]
            found.append((ours - exact).abs().sum(1).mean() / 2)
    return torch.stack(found)
