"""Attention with any score against the formulas of Bahdanau et al. and Luong et al., its steps, and its gradients."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kotya.attention.caches import SourceIndex
from kotya.attention.custom import build_score
from kotya.attention.local import LocalWindow
from kotya.attention.recorder import record_attention
from kotya.attention.soft import SoftAttention

ROWS, QUERIES, SOURCE, SIZE = 3, 4, 7, 6
LENGTHS = torch.tensor([7, 3, 1])


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    query, keys, values = (torch.randn(ROWS, n, SIZE).double() for n in (QUERIES, SOURCE, SOURCE))
    positions = torch.arange(QUERIES).expand(ROWS, -1)
    return query.requires_grad_(), keys.requires_grad_(), values.requires_grad_(), positions


def build(score: str, window: LocalWindow | None = None) -> SoftAttention:
    torch.manual_seed(2)
    return SoftAttention(build_score(score, SIZE, SIZE), window).double()


def index() -> SourceIndex:
    return SourceIndex(torch.arange(ROWS), ROWS)


@torch.no_grad()
def test_the_context_is_the_weighted_sum_over_real_positions() -> None:
    query, keys, values, _ = inputs()
    attention = build("mlp")
    context = attention(query, attention.read(keys, values, LENGTHS), index())
    scores = attention.score.score(query, attention.score.prepare(keys))
    for row, length in enumerate(LENGTHS.tolist()):
        for t in range(QUERIES):
            weights = [math.exp(float(scores[row, t, k])) for k in range(length)]
            expected = sum(w / sum(weights) * values[row, k] for k, w in enumerate(weights))
            torch.testing.assert_close(context[row, t], expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["local-m", "local-p"])
def test_a_local_window_is_luong_s(kind: Any) -> None:
    """Section 3.2: weights are softmaxed in [p - D, p + D]; for local-p times exp(-(s - p)²/2σ²), σ = D/2."""
    query, keys, values, positions = inputs()
    torch.manual_seed(3)
    width = 2
    window = LocalWindow(kind, SIZE, width)
    attention = build("bilinear", window)
    with record_attention(attention) as maps:
        attention(query, attention.read(keys, values, LENGTHS), index(), positions)
    scores = attention.score.score(query, attention.score.prepare(keys))
    for row, length in enumerate(LENGTHS.tolist()):
        for t in range(QUERIES):
            centre = float(min(t, length - 1))
            if window.inner is not None and window.outer is not None:
                inner = torch.tanh(window.inner.weight @ query[row, t])
                centre = length * float(torch.sigmoid(window.outer.weight[0] @ inner))
            inside = [s for s in range(length) if abs(s - centre) <= width]
            total = sum(math.exp(float(scores[row, t, s])) for s in inside)
            for s in range(SOURCE):
                weight = math.exp(float(scores[row, t, s])) / total if s in inside else 0.0
                if kind == "local-p":
                    weight *= math.exp(-((s - centre) ** 2) / (2 * (width / 2) ** 2))
                assert float(maps[""][0][row, 0, t, s]) == pytest.approx(weight, abs=1e-9)


@pytest.mark.parametrize("score", ["dot", "scaled-dot", "bilinear", "mlp"])
def test_steps_equal_all_queries_at_once_forward_and_backward(score: str) -> None:
    """Also where the weights are in the loss, as in guided alignment."""
    attention = build(score)
    generator = torch.Generator().manual_seed(4)
    wanted = torch.randn(ROWS, QUERIES, SIZE, generator=generator).double()
    taught = torch.randn(ROWS, 1, QUERIES, SOURCE, generator=generator).double()
    gradients = []
    for stepwise in (False, True):
        query, keys, values, positions = inputs()
        attention.zero_grad()
        source = attention.read(keys, values, LENGTHS)
        with record_attention(attention, differentiable=True) as maps:
            if stepwise:
                steps = attention.steps(source, index())
                assert steps.fast is not None
                context = torch.stack([steps(query[:, t], positions[:, t]) for t in range(QUERIES)], 1)
                steps.close()
            else:
                context = attention(query, source, index(), positions)
        [weights] = maps[""]
        ((context * wanted).sum() + (weights * taught).sum()).backward()
        gradients.append(
            [context, query.grad, keys.grad, values.grad, *(p.grad for p in attention.parameters())]
        )
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


@torch.no_grad()
def test_rows_of_a_line_share_its_keys() -> None:
    query, keys, values, positions = inputs()
    attention = build("mlp", LocalWindow("local-m", SIZE, 1))
    source = attention.read(keys, values, LENGTHS)
    line = torch.tensor([2, 0, 0, 1, 0])
    many = attention(query[line], source, SourceIndex(line, ROWS), positions[line])
    torch.testing.assert_close(many, attention(query, source, index(), positions)[line])
