"""The fused loss against PyTorch's own over all logits in float64, and its memory."""

import pytest
import torch
import torch.nn.functional as F

from kotya.models import cross_entropy
from kotya.models.cross_entropy import linear_cross_entropy


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_equal_those_over_all_logits(
    smoothing: float, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK", 7)
    torch.manual_seed(1)
    hidden, weight = torch.randn(20, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    offset = torch.randn(30, requires_grad=True) if bias else None
    leaves = [x for x in (hidden, weight, offset) if x is not None]
    targets = torch.randint(30, (20,))
    loss, likelihood = linear_cross_entropy(hidden, weight, offset, targets, smoothing=smoothing)
    logits = F.linear(hidden.double(), weight.double(), None if offset is None else offset.double())
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(
        likelihood.double(), F.cross_entropy(logits, targets, reduction="sum"), rtol=1e-6, atol=1e-4
    )
    gradients = torch.autograd.grad(loss * 0.5, leaves)
    for gradient, other in zip(gradients, torch.autograd.grad(expected * 0.5, leaves), strict=True):
        torch.testing.assert_close(gradient, other.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_target_of_vanishing_probability_has_its_whole_loss(smoothing: float) -> None:
    """Logits of ±400: p is 0 in float32, -log p is 800."""
    hidden, weight = torch.tensor([[20.0], [-20.0], [20.0]]), torch.tensor([[20.0], [-20.0], [0.0]])
    targets = torch.tensor([1, 0, 0])
    loss, likelihood = linear_cross_entropy(hidden, weight, None, targets, smoothing=smoothing)
    logits = F.linear(hidden.double(), weight.double())
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    assert likelihood.item() == pytest.approx(1600, rel=1e-6)


def test_bf16_stays_near_float32() -> None:
    torch.manual_seed(1)
    hidden, weight = torch.randn(600, 64), torch.randn(500, 64) / 8
    targets = torch.randint(500, (600,))
    exact, _ = linear_cross_entropy(hidden, weight, None, targets, smoothing=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = linear_cross_entropy(hidden, weight, None, targets, smoothing=0.1)
    assert rounded.item() == pytest.approx(exact.item(), rel=2e-3)


def test_the_logits_never_exist_at_once() -> None:
    rows, vocabulary = 4096, 2000
    hidden, weight = (
        torch.randn(rows, 16, requires_grad=True),
        torch.randn(vocabulary, 16, requires_grad=True),
    )
    targets = torch.randint(vocabulary, (rows,))
    with torch.profiler.profile(profile_memory=True) as profile:
        linear_cross_entropy(hidden, weight, None, targets)[0].backward()
    largest = max(
        (event.cpu_memory_usage if hasattr(event, "cpu_memory_usage") else 0) for event in profile.events()
    )
    assert 0 < largest < rows * vocabulary * 4 / 2
