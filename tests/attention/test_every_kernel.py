"""One property: whatever patterns, texts, heads and roles are drawn, every kernel is the oracle in float64, there and
back, with texts packed or padded. FlexAttention goes uncompiled, and on a CPU it only goes there.
"""

from unittest.mock import patch

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attention_oracle import attended, check_equal, patterns
from kotya.attention import flex, head_patterns, planner
from kotya.attention.block_patterns import Ends, Random
from kotya.attention.forms import Patterned
from kotya.attention.head_patterns import HeadPatterns
from kotya.attention.packed import Packing
from kotya.attention.patterns import Causal, Full, Global, Pattern, Window

# the types of what is drawn are checked by samples
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

SIZE = 4


def padded(texts: list[Tensor]) -> Tensor:
    """Rows whose padding, of which nothing may come, is large."""
    return torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=9.0)


@settings(max_examples=50, deadline=None)
@given(
    drawn=st.tuples(patterns) | st.tuples(patterns, patterns) | st.tuples(st.just(Full())),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    queries=st.none() | st.integers(1, 40),
    causal=st.booleans(),
    packed=st.booleans(),
    heads=st.sampled_from([2, 4]),
    kernel=st.sampled_from(["dense", "blocks", "flex"]),
    block=st.sampled_from([4, 8, 32]),
)
@example((Ends(8),), [30, 24], None, False, True, 2, "dense", 32)
@example((Global((28,)),), [30, 28], None, False, True, 2, "dense", 32)
def test_every_kernel_is_the_oracle(
    drawn: tuple[Pattern, ...],
    lengths: list[int],
    queries: int | None,
    causal: bool,
    packed: bool,
    heads: int,
    kernel: str,
    block: int,
) -> None:
    """`queries`: how many read each text, in cross-attention. `block`: positions in one where a pattern leaves it open,
    so that texts span many."""
    cross = queries is not None
    causal, packed = causal and not cross, packed and not cross
    if kernel != "dense" and isinstance(drawn[0], Full | Causal):
        kernel = "dense"
    ours = HeadPatterns(drawn, 2, "dense" if kernel == "dense" else "blocks")
    form, counts = Patterned(ours), [queries or length for length in lengths]
    inputs = [
        torch.randn(sum(some), heads, SIZE, dtype=torch.float64).requires_grad_(kernel != "flex")
        for some in (counts, lengths, lengths)
    ]
    texts = [x.split(some) for x, some in zip(inputs, (counts, lengths, lengths), strict=True)]
    with (
        patch.object(planner, "_BLOCK", 2 * block),
        patch.object(flex, "_compiled", lambda: flex._attend),
        patch.object(head_patterns, "choose", lambda *_: kernel),
    ):
        planner.plan.cache_clear()
        if packed:
            output = form.packed(*inputs, Packing.of(lengths), causal=causal, dropout=0.0)
        else:
            rows = (padded(list(some)) for some in texts)
            read = form.rows(*rows, torch.tensor(lengths), causal=causal, cross=cross)
            output = torch.cat([row[:count] for row, count in zip(read, counts, strict=True)])
        planner.plan.cache_clear()
    alone = [
        attended(q, k, v, ours.mask(len(q), len(k), heads, causal=causal, cross=cross))
        for q, k, v in zip(*texts, strict=True)
    ]
    if kernel == "flex":
        torch.testing.assert_close(output, torch.cat(alone), atol=1e-10, rtol=0)
    else:
        check_equal(output, torch.cat(alone), inputs)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", ["dense", "blocks", "flex"])
@pytest.mark.parametrize("pattern", [Window(9, 5), Window(3, 3, 2) | Window(1, 1), Random(2, 0, 8), Full()])
def test_a_key_with_a_bias_of_log_m_is_m_keys(pattern: Pattern, kernel: str, causal: bool) -> None:
    if isinstance(pattern, Full):
        kernel = "dense"
    length, ours = 50, HeadPatterns((pattern,), 2)
    query, key, value = (
        torch.randn(length, 2, SIZE, dtype=torch.float64).requires_grad_(kernel != "flex") for _ in range(3)
    )
    counts = torch.randint(1, 5, (length,))
    bias = counts.double().log()
    with (
        patch.object(planner, "_BLOCK", 8),
        patch.object(flex, "_compiled", lambda: flex._attend),
        patch.object(head_patterns, "choose", lambda *_: kernel),
    ):
        planner.plan.cache_clear()
        output = ours.attend(query, key, value, causal=causal, key_bias=bias)
        planner.plan.cache_clear()
    each = torch.arange(length).repeat_interleave(counts)
    seen = ours.mask(length, length, 2, causal=causal)[:, :, each]
    expected = attended(query, key[each], value[each], seen)
    if kernel == "flex":
        torch.testing.assert_close(output, expected, atol=1e-10, rtol=0)
    else:
        check_equal(output, expected, [query, key, value])
    sparse = ours.sparse_weights(query.detach(), key.detach(), causal=causal, cross=False, key_bias=bias)
    read = torch.einsum("hqk,khd->qhd", sparse.to_dense().double(), value)
    torch.testing.assert_close(read, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pattern", [Window(4, 2), Window(3, 3, 2), Window(1, 1) | Global((0, 20))])
def test_a_bias_of_one_key_is_added_wherever_it_is_read(pattern: Pattern) -> None:
    length = 50
    query, key, value = (torch.randn(length, 2, SIZE, dtype=torch.float64) for _ in range(3))
    with patch.object(planner, "_BLOCK", 8):
        planner.plan.cache_clear()
        for bias in torch.eye(length, dtype=torch.float64):
            blocks, dense = (
                HeadPatterns((pattern,), 2, kernel).attend(query, key, value, key_bias=bias)
                for kernel in ("blocks", "dense")
            )
            torch.testing.assert_close(blocks, dense)
        planner.plan.cache_clear()
