"""Every kernel against the formula in float64, forward and backward."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kotya.attention import kernels
from kotya.attention.kernels import causal_mask, exact, fused, padding_mask, short


def oracle(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, causal: bool) -> Tensor:
    """softmax(QKᵀ/√d)V one query at a time, in float64, over the keys it may see and no others."""
    query, key, value = query.double(), key.double(), value.double()
    output = []
    for row in range(len(query)):
        for q in range(query.shape[1]):
            end = (
                min(int(lengths[row]), key.shape[1] - query.shape[1] + q + 1) if causal else int(lengths[row])
            )
            for head in range(query.shape[2]):
                scores = key[row, :end, head] @ query[row, q, head] / math.sqrt(query.shape[-1])
                output.append(scores.softmax(0) @ value[row, :end, head])
    return torch.stack(output).view(query.shape)


KERNELS: dict[str, Callable[..., Tensor]] = {
    "fused": fused,
    "short": short,
    "exact": lambda *tensors, **options: exact(*tensors, **options)[0],
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_equals_the_formula(name: str, padded: bool, causal: bool) -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(3, 6, 2, 4, requires_grad=True) for _ in range(3))
    lengths = torch.tensor([6, 4, 1]) if padded else torch.tensor([6, 6, 6])
    mask = padding_mask(lengths, 6, torch.float32)
    assert (mask is None) is not padded
    weight = torch.randn(3, 6, 2, 4)
    expected = oracle(query, key, value, lengths, causal)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    output = KERNELS[name](query, key, value, mask=mask, causal=causal)
    gradients = torch.autograd.grad((output * weight).sum(), (query, key, value))
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient.float(), atol=1e-5, rtol=1e-4)


def test_dropped_weights_have_the_gradient_of_what_was_computed() -> None:
    torch.manual_seed(1)
    tensors = [torch.randn(2, 3, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        torch.manual_seed(7)
        return short(query, key, value, dropout=0.3)

    assert not torch.equal(attention(*tensors), short(*tensors))
    assert torch.autograd.gradcheck(attention, tensors)


def test_the_causal_triangle_ends_in_the_last_query_and_the_last_key() -> None:
    seen = causal_mask(2, 4, torch.float32, torch.device("cpu"))[0, 0] == 0
    assert seen.tolist() == [[True, True, True, False], [True, True, True, True]]


def test_attention_takes_the_short_kernel_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        kernels, "short", lambda *tensors, **options: calls.append("short") or short(*tensors, **options)
    )
    query = torch.randn(1, 2, 1, 4, requires_grad=True)
    kernels.attend(query, query, query)
    assert calls == ["short"]
    with torch.no_grad():
        kernels.attend(query, query, query)
    assert calls == ["short"]
