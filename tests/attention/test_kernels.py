"""Every kernel against the formula in float64, forward and backward."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kotya.attention import kernels
from kotya.attention.kernels import causal_mask, exact, fused, padding_mask, short, single


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


# (queries, keys, causal): a text that reads itself, one that reads another, and a few new tokens behind a cached past
ROLES = {
    "encoder": (6, 6, False),
    "decoder": (6, 6, True),
    "cross": (4, 7, False),
    "extend": (3, 7, True),
}
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def random_heads(*lengths: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys, values …, [3 rows, length, 2 heads, 4]."""
    torch.manual_seed(1)
    return [torch.randn(3, length, 2, 4).to(dtype).requires_grad_() for length in lengths]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_equals_the_formula(name: str, role: str, padded: bool, dtype: torch.dtype) -> None:
    """Forward and backward; in bf16 the oracle is given the same rounded numbers."""
    queries, keys, causal = ROLES[role]
    query, key, value = random_heads(queries, keys, keys, dtype=dtype)
    lengths = torch.tensor([keys, 5, 3] if causal and queries < keys else [keys, 4, 1])
    if not padded:
        lengths = torch.full((3,), keys)
    mask = padding_mask(lengths, keys, dtype)
    assert (mask is None) is not padded
    weight = torch.randn(query.shape)
    expected = oracle(query, key, value, lengths, causal)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    output = KERNELS[name](query, key, value, mask=mask, causal=causal)
    assert output.dtype == dtype
    gradients = torch.autograd.grad((output * weight).sum(), (query, key, value))
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(output.double(), expected, atol=tolerance, rtol=tolerance)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, expected_gradient, atol=2 * tolerance, rtol=2 * tolerance)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_single_query_equals_the_formula(padded: bool, cached: bool, dtype: torch.dtype) -> None:
    """As a step of decoding asks it; keys also column by column, as a cache keeps them."""
    query, key, value = random_heads(1, 7, 7, dtype=dtype)
    if cached:
        key, value = (x.transpose(0, 1).contiguous().transpose(0, 1) for x in (key, value))
    lengths = torch.tensor([7, 4, 1]) if padded else torch.tensor([7, 7, 7])
    before = [x.clone() for x in (query, key, value)]
    output = single(query, key, value, mask=padding_mask(lengths, 7, dtype))
    assert output.dtype == dtype
    tolerance = TOLERANCES[dtype]
    expected = oracle(query, key, value, lengths, causal=False)
    torch.testing.assert_close(output.double(), expected, atol=tolerance, rtol=tolerance)
    assert all(torch.equal(*pair) for pair in zip(before, (query, key, value), strict=True))


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


def test_attention_takes_the_kernel_for_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training `short` up to 128 keys; a step of decoding `single`; all else `fused`; and all give the same."""
    calls: list[str] = []
    for name in ("short", "single", "fused"):
        kernel = getattr(kernels, name)

        def called(*tensors: Tensor, name: str = name, kernel: Any = kernel, **options: Any) -> Tensor:
            calls.append(name)
            return kernel(*tensors, **options)

        monkeypatch.setattr(kernels, name, called)
    for queries, keys, trains, chosen in (
        (2, 128, True, "short"),
        (1, 5, True, "short"),
        (2, 129, True, "fused"),
        (1, 129, False, "single"),
        (2, 5, False, "fused"),
    ):
        query, key, value = random_heads(queries, keys, keys)
        with torch.set_grad_enabled(trains):
            output = kernels.attend(query, key, value)
        assert calls.pop() == chosen
        expected = oracle(query, key, value, torch.full((3,), keys), causal=False)
        torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-5)
    assert not calls
