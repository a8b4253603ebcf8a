"""Packed = padded (promise 4): every sequence alone, by the formula in float64, forward and backward."""

import math

import pytest
import torch
from torch import Tensor, nn

from kotya.attention import kernels
from kotya.attention.head_patterns import HeadPatterns
from kotya.attention.packed import Packing, attend_first, attend_packed, grouped
from kotya.attention.patterns import Window

LENGTHS = (5, 9, 1, 9, 3, 40, 38)
HEADS, SIZE = 3, 4


def oracle(query: Tensor, key: Tensor, value: Tensor, causal: bool, window: int | None) -> Tensor:
    """softmax(QKᵀ/√d)V of one sequence, over the keys that a token may see and no others."""
    output = torch.empty_like(query)
    for i in range(len(query)):
        last = i if causal else len(query) - 1
        seen = [j for j in range(last + 1) if window is None or abs(i - j) <= window]
        scores = torch.einsum("hs,khs->hk", query[i], key[seen]) / math.sqrt(query.shape[-1])
        output[i] = torch.einsum("hk,khs->hs", scores.softmax(-1), value[seen])
    return output


def banded(window: int | None) -> HeadPatterns | None:
    return None if window is None else HeadPatterns((Window(window, window),))


def random_tokens(lengths: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    return [torch.randn(sum(lengths), HEADS, SIZE).to(dtype).requires_grad_() for _ in range(4)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 2, 20])
@pytest.mark.parametrize("kept", [True, False])
def test_packed_is_every_sequence_alone(
    dtype: torch.dtype,
    tolerance: float,
    causal: bool,
    window: int | None,
    kept: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether weights are kept for the backward or the fused kernel runs; three kinds of groups."""
    if not kept:
        monkeypatch.setattr(kernels, "_KEPT", 0)
    *tokens, upstream = random_tokens(LENGTHS, dtype)
    packing = Packing.of(LENGTHS)
    output = attend_packed(*tokens, packing, causal=causal, patterns=banded(window))
    found = torch.autograd.grad(output, tokens, upstream)
    exact = [x.detach().double().requires_grad_() for x in tokens]
    parts = zip(*(x.split(LENGTHS) for x in exact), strict=True)
    expected = torch.cat([oracle(*part, causal, window) for part in parts])
    gradients = torch.autograd.grad(expected, exact, upstream.double())
    for mine, theirs in zip((output, *found), (expected, *gradients), strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=tolerance, rtol=tolerance)
    with torch.no_grad():
        predicted = attend_packed(*tokens, packing, causal=causal, patterns=banded(window))
    torch.testing.assert_close(predicted.double(), expected.detach(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)], ids=str)
def test_the_first_tokens_alone_read_what_they_read_among_all(dtype: torch.dtype, tolerance: float) -> None:
    query, key, value, _ = random_tokens(LENGTHS, dtype)
    packing = Packing.of(LENGTHS)
    upstream = torch.randn(len(LENGTHS), HEADS, SIZE).to(dtype)
    output = attend_first(query[packing.starts], key, value, packing)
    found = torch.autograd.grad(output, (query, key, value), upstream)
    exact = [x.detach().double().requires_grad_() for x in (query, key, value)]
    parts = zip(*(x.split(LENGTHS) for x in exact), strict=True)
    expected = torch.stack([oracle(*part, causal=False, window=None)[0] for part in parts])
    gradients = torch.autograd.grad(expected, exact, upstream.double())
    for mine, theirs in zip((output, *found), (expected, *gradients), strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=tolerance, rtol=tolerance)
    with torch.no_grad():
        predicted = attend_first(query[packing.starts], key, value, packing)
    torch.testing.assert_close(predicted.double(), expected.detach(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("changed", range(len(LENGTHS)))
def test_a_sequence_does_not_see_its_neighbours(changed: int) -> None:
    """One sequence is another: nothing in the others' outputs and gradients moves."""
    packing = Packing.of(LENGTHS)
    tokens = random_tokens(LENGTHS, torch.float32)
    others = [x.detach().clone() for x in tokens]
    for x in others:
        x.split(LENGTHS)[changed].normal_(mean=5.0)
    results = []
    for *qkv, upstream in (tokens, [x.requires_grad_() for x in others]):
        output = attend_packed(*qkv, packing)
        results.append([output, *torch.autograd.grad(output, qkv, upstream)])
    for i, (one, other) in enumerate(zip(*results, strict=True)):
        pairs = list(zip(one.split(LENGTHS), other.split(LENGTHS), strict=True))
        before, after = pairs.pop(changed)
        assert i > 0 or not torch.allclose(before, after, atol=1e-2)
        for mine, theirs in pairs:
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def test_dropout_is_on_the_weights_and_keeps_their_expectation() -> None:
    lengths = (6, 6, 4)
    query, key, value, _ = random_tokens(lengths, torch.float32)
    packing = Packing.of(lengths)
    whole = attend_packed(query, key, value, packing)
    many = [attend_packed(query, key, value, packing, dropout=0.25) for _ in range(600)]
    assert not torch.allclose(many[0], many[1], atol=1e-2)
    torch.testing.assert_close(torch.stack(many).mean(0), whole, atol=0.15, rtol=0)


def test_groups_hold_every_sequence_once_and_the_padding_of_one_is_cheap() -> None:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 300, (100,), generator=generator).tolist()
    groups = grouped(lengths)
    assert sorted(row for group in groups for row in group) == list(range(100))
    for group in groups:
        longest = max(lengths[row] for row in group)
        assert sum(longest**2 - lengths[row] ** 2 for row in group) <= 600
    assert len(grouped([7] * 50)) == 1


def test_pad_and_unpad() -> None:
    packing = Packing.of(LENGTHS)
    x = torch.randn(packing.tokens, 3)
    padded = packing.pad(x)
    assert torch.equal(padded, nn.utils.rnn.pad_sequence(list(x.split(LENGTHS)), batch_first=True))
    assert torch.equal(packing.unpad(padded), x)
    assert torch.equal(x[packing.starts], padded[:, 0])
    assert packing.positions.tolist() == [i for length in LENGTHS for i in range(length)]
    assert (packing.tokens, packing.longest) == (sum(LENGTHS), 40)


@pytest.mark.parametrize("lengths", [(7,), (4, 4, 4)])
def test_texts_of_one_length_are_rows_as_they_stand(lengths: tuple[int, ...]) -> None:
    packing = Packing.of(lengths)
    x = torch.randn(packing.tokens, 2, 3)
    padded = packing.pad(x)
    assert torch.equal(padded, torch.stack(x.split(lengths)))
    assert torch.equal(packing.unpad(padded), x)
    assert padded.data_ptr() == packing.unpad(padded).data_ptr() == x.data_ptr()


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="one token at least"):
        Packing.of([3, 0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (False, 2)])
def test_a_gpu_computes_the_same(dtype: torch.dtype, causal: bool, window: int | None) -> None:
    """In bf16 the kernel for sequences of any length, in float32 the padded batch."""
    tokens = [torch.randn(sum(LENGTHS), HEADS, 32, dtype=dtype).requires_grad_() for _ in range(4)]
    results = []
    for device in ("cpu", "cuda"):
        *qkv, upstream = (x.detach().to(device).requires_grad_() for x in tokens)
        output = attend_packed(*qkv, Packing.of(LENGTHS, device), causal=causal, patterns=banded(window))
        results.append([output.cpu(), *(g.cpu() for g in torch.autograd.grad(output, qkv, upstream))])
    tolerance = 3e-2 if dtype == torch.bfloat16 else 1e-4
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
