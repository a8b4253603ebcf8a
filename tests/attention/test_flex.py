"""FlexAttention's BlockMask made of our blocks shows what the pattern shows."""

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from kotya.attention.block_patterns import Ends, Neighbours, Random
from kotya.attention.flex import block_mask
from kotya.attention.head_patterns import HeadPatterns
from kotya.attention.patterns import Causal, Global, Pattern, Window
from kotya.attention.presets import PRESETS

PATTERNS: dict[str, Pattern] = {name: pattern for name, pattern in PRESETS.items() if name != "full"} | {
    "named": Window(9, 0) | Global((3, 200)),
    "both": Window(60, 60) & Random(4, 1, 32),
    "ends": Neighbours(24) | Ends(24),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", PATTERNS)
def test_the_block_mask_shows_the_pattern(name: str, causal: bool) -> None:
    """Uncompiled, on the CPU: values that name the keys show which of them were seen."""
    pattern, length = PATTERNS[name] & Causal() if causal else PATTERNS[name], 300
    mask = block_mask(pattern, length, length, False, 1, (0, 1), torch.device("cpu"))
    query, key = torch.zeros(1, 2, length, 16), torch.zeros(1, 2, length, 16)
    value = torch.eye(length).expand(1, 2, -1, -1)
    seen = flex_attention(query, key, value, block_mask=mask)
    assert isinstance(seen, torch.Tensor)
    narrow = [pattern.narrow().bind(length, length, layer=1, head=head).mask() for head in (0, 1)]
    assert torch.equal(seen[0] > 0, torch.stack(narrow))


@pytest.mark.parametrize("name", PATTERNS)
def test_what_is_compiled_is_pointwise(name: str) -> None:
    """Of all pairs at once it is what it is of each: a rule that sums up anything has no kernel."""
    pattern, length = PATTERNS[name], 300
    mask = block_mask(pattern, length, length, False, 1, (0, 1), torch.device("cpu"))
    row, position = torch.tensor(0), torch.arange(length)
    for head in (0, 1):
        seen = mask.mask_mod(row, torch.tensor(head), position[:, None], position)
        expected = pattern.narrow().bind(length, length, layer=1, head=head).mask()
        assert torch.equal(seen.expand(length, length), expected)


def test_blocks_across_two_texts() -> None:
    pattern = Window(20, 20) | Random(1, 0, 64) | Neighbours(12)
    mask = block_mask(pattern, 200, 330, True, 0, (0,), torch.device("cpu"))
    query, key = torch.zeros(1, 1, 200, 16), torch.zeros(1, 1, 330, 16)
    seen = flex_attention(query, key, torch.eye(330)[None, None], block_mask=mask)
    assert isinstance(seen, torch.Tensor)
    assert torch.equal(seen[0, 0] > 0, pattern.bind(200, 330, cross=True).mask())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", PATTERNS)
def test_on_a_gpu_it_is_the_same_as_blocks_there_and_back(name: str) -> None:
    inputs = [torch.randn(1500, 4, 64, device="cuda", requires_grad=True) for _ in range(3)]
    results = []
    for kernel in ("flex", "blocks"):
        output = HeadPatterns((PATTERNS[name],), 0, kernel).attend(*inputs, causal=True)  # type: ignore[arg-type]
        results.append([output, *torch.autograd.grad(output.sum(), inputs)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)
