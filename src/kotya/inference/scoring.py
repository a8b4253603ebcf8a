"""log p(y|x) of given translations: one forced pass, the same numbers that search adds up step by step."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from kotya.search.ensemble import Ensemble, mixed
from kotya.search.hypothesis import Roles

Pair = tuple[list[int], list[int]]
_WINDOW = 512
_POSITIONS = 1024
"""Target positions at once; the logits of all of them are held."""


def score_pairs(ensemble: Ensemble, roles: Roles, pairs: Iterable[Pair]) -> Iterator[tuple[int, float]]:
    """The length, end counted, and Σ log p with the end, of every target; ids without begin and end."""
    source = iter(pairs)
    while window := list(islice(source, _WINDOW)):
        order = sorted(range(len(window)), key=lambda i: (len(window[i][1]), len(window[i][0])))
        sums: dict[int, float] = {}
        while order:
            longest = max(len(window[i][1]) for i in order[-1:]) + 1
            count = max(1, _POSITIONS // longest)
            chosen, order = order[-count:], order[:-count]
            sums.update(zip(chosen, _sums(ensemble, roles, [window[i] for i in chosen]), strict=True))
        yield from ((len(window[i][1]) + 1, sums[i]) for i in range(len(window)))


@torch.inference_mode()
def _sums(ensemble: Ensemble, roles: Roles, pairs: Sequence[Pair]) -> list[float]:
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
    sums: list[float] = (log_p * real).sum(1).tolist()
    return sums
