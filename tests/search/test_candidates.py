"""The blocked top-k and argmax against PyTorch's."""

import pytest
import torch

from kotya.search.candidates import best, top


@pytest.mark.parametrize("vocabulary", [5, 64, 999, 1024, 4100])
@pytest.mark.parametrize("count", [1, 4, 6])
def test_they_are_those_of_the_whole_row(vocabulary: int, count: int) -> None:
    torch.manual_seed(vocabulary)
    logits = torch.randn(50, vocabulary)
    logits[:, ::7] = -torch.inf
    logits[0, -1] = 9.0
    values, places = top(logits, min(count, vocabulary))
    expected = logits.topk(min(count, vocabulary))
    assert torch.equal(values, expected.values)
    assert torch.equal(logits.gather(1, places), values)
    assert torch.equal(best(logits), logits.argmax(-1))


@pytest.mark.parametrize("place", [0, 300, 998])
def test_a_nan_is_the_highest(place: int) -> None:
    logits = torch.randn(3, 999)
    logits[1, place] = torch.nan
    assert best(logits)[1] == place
    assert torch.equal(best(logits), logits.argmax(-1))
    assert top(logits, 3)[1][1, 0] == place
