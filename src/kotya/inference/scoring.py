"""log p(y|x) of given translations: one forced pass, the same numbers that search adds up step by step."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kotya.inference.arriving import arriving
from kotya.search.coverage import Coverage
from kotya.search.ensemble import Ensemble, mixed
from kotya.search.hypothesis import Roles

Pair = tuple[list[int], list[int]]
_WINDOW = 512
_POSITIONS = 1024
"""Target positions at once; the logits of all of them are held."""


@dataclass(frozen=True)
class Scored:
    """What search would say of a target."""

    length: int
    """The end counted."""
    log_probability: float
    """Σ log p, with the end."""
    coverage: float
    """The coverage penalty, or 0."""


def score_pairs(
    ensemble: Ensemble, roles: Roles, pairs: Iterable[Pair], coverage: Coverage | None = None
) -> Iterator[Scored]:
    """Every target, as ids without begin and end, given its source. Raises Fault for a probability that is NaN."""
    number = 0
    for window in arriving(pairs, _WINDOW):
        order = sorted(range(len(window)), key=lambda i: (len(window[i][1]), len(window[i][0])))
        found: dict[int, Scored] = {}
        while order:
            longest = len(window[order[-1]][1]) + 1
            count = max(1, _POSITIONS // longest)
            chosen, order = order[-count:], order[:-count]
            some = _score(ensemble, roles, [window[i] for i in chosen], coverage)
            found.update(zip(chosen, some, strict=True))
        for i in range(len(window)):
            number += 1
            if math.isnan(found[i].log_probability):
                raise ensemble.no_number(f"line {number}")
            yield found[i]


@torch.inference_mode()
def _score(
    ensemble: Ensemble, roles: Roles, pairs: Sequence[Pair], coverage: Coverage | None
) -> list[Scored]:
    memories = ensemble.encode([source for source, _ in pairs])
    longest = max(len(target) for _, target in pairs) + 1
    rows = [[roles.begin, *target, *[roles.end] * (longest - len(target))] for _, target in pairs]
    tokens = torch.tensor(rows, device=ensemble.device)
    logits = mixed(
        [
            model.decoder.output(model.decoder(tokens[:, :-1], memory))
            for model, memory in zip(ensemble.models, memories, strict=True)
        ]
    )
    log_p: Tensor = logits.float().log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
    lengths = torch.tensor([len(target) + 1 for _, target in pairs], device=ensemble.device)
    real = torch.arange(longest, device=ensemble.device) < lengths[:, None]
    sums = (log_p * real).sum(1).tolist()
    penalties = [0.0] * len(pairs)
    if coverage is not None:
        penalties = coverage([(memories, row, target) for row, (_, target) in enumerate(pairs)])
    return [
        Scored(len(target) + 1, total, penalty)
        for (_, target), total, penalty in zip(pairs, sums, penalties, strict=True)
    ]
