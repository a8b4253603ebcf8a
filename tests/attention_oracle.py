"""Attention under a mask as the formula stands, in float64, and patterns at random."""

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from kotya.attention.block_patterns import Ends, Neighbours, Random
from kotya.attention.patterns import Global, Pattern, Window

windows = st.builds(Window, st.integers(0, 9), st.integers(0, 9), st.integers(1, 4))
patterns = st.recursive(
    st.one_of(
        windows,
        st.builds(Global, st.integers(0, 5)),
        st.builds(lambda some: Global(tuple(sorted(some))), st.sets(st.integers(0, 3), min_size=1)),
        st.builds(Neighbours, st.sampled_from([1, 3, 4, 8])),
        st.builds(Ends, st.sampled_from([1, 3, 8])),
        st.builds(
            lambda *given: Random(*given), st.integers(0, 3), st.integers(0, 5), st.sampled_from([2, 4, 5, 8])
        ),
    ),
    lambda inner: st.builds(Pattern.__or__, inner, inner) | st.builds(Pattern.__and__, inner, inner),
    max_leaves=4,
)


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """softmax(QKᵀ/√d + mask) V of [length, heads, size], zero where nothing is seen; mask [heads?, queries, keys]."""
    scores = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(query.shape[-1])
    weights = torch.where(mask, scores.masked_fill(~mask, -math.inf).logsumexp(-1, keepdim=True), 0.0)
    weights = torch.where(mask, (scores - weights).exp(), 0.0)
    return torch.einsum("hqk,khd->qhd", weights, value)


def check_equal(output: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    """The outputs, and the gradients of the inputs."""
    torch.testing.assert_close(output, expected, atol=1e-10, rtol=0)
    gradient = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    for mine, theirs in zip(
        torch.autograd.grad(output, inputs, gradient),
        torch.autograd.grad(expected, inputs, gradient),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=0)
