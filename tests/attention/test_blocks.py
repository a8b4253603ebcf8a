"""Blocks against the oracle in float64 in texts of many of them, or none; what they cost; their dropout."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor

from attention_oracle import attended, check_equal, patterns
from kotya.attention import blocks, planner
from kotya.attention.block_patterns import Neighbours, Random
from kotya.attention.blocks import attend_blocks, attend_dense
from kotya.attention.choices import AttentionConfig, form_of
from kotya.attention.head_patterns import HeadPatterns
from kotya.attention.patterns import Causal, Full, Global, Pattern, Window
from kotya.attention.presets import PRESETS
from kotya.errors import KotyaError
from kotya.inference.attention_forms import peak_memory

# the types of what is drawn are checked by samples
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def tensors(queries: int, keys: int, heads: int, size: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(queries * 100 + keys)
    return [
        torch.randn(n, heads, size, dtype=torch.float64, generator=generator).requires_grad_()
        for n in (queries, keys, keys)
    ]


def by_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern,
    *,
    cross: bool = False,
    layer: int = 0,
    dropout: float = 0.0,
) -> Tensor:
    patterns = HeadPatterns((pattern,), layer, "blocks")
    return patterns.attend(query, key, value, cross=cross, dropout=dropout)


roles = st.sampled_from(["self", "causal", "cross"])


@settings(max_examples=80, deadline=None)
@given(
    patterns,
    roles,
    st.integers(0, 90),
    st.integers(0, 90),
    st.integers(1, 3),
    st.sampled_from([4, 8, 32]),
)
@example(Window(3, 2, 250), "self", 601, 601, 2, 128)
@example(Window(1, 1, 90_000) | Window(2, 0, 30_000), "causal", 300, 300, 1, 128)
@example(Window(1, 1, 1_000_000), "self", 90, 90, 1, 128)
@example(Window(1, 1, 90) | Window(2, 2), "causal", 90, 90, 1, 128)
@example(Random(1, 0, 20_000), "self", 90, 90, 2, 128)
@example(Random(2, 0, 60), "cross", 90, 40, 2, 128)
@example(Random(2, 0, 8), "self", 61, 61, 2, 128)
@example(Window(256, 256) | Global(1), "causal", 777, 777, 1, 128)
@example(Window(20, 20, 3) | Window(5, 5), "self", 300, 300, 1, 128)
@example(Window(40, 0, 2) | Global((0, 7)) | Random(2, 1, 16), "causal", 200, 200, 3, 128)
@example(
    Neighbours(4) | Global((12, 13, 14, 15)), "self", 40, 40, 1, 4
)  # a block in the middle is read apart
@example(Neighbours(4) | Global((8, 9, 10, 11)), "cross", 40, 20, 1, 4)
@example(Global((0, 30)) | Window(2, 2), "causal", 90, 90, 2, 4)
def test_blocks(pattern: Pattern, role: str, queries: int, keys: int, heads: int, block: int) -> None:
    """`block`: positions in one where the pattern leaves it open, so that texts span many."""
    if role != "cross":
        keys = queries
    if role == "causal":
        pattern = pattern & Causal()
    inputs = tensors(queries, keys, heads)
    detached = [x.detach() for x in inputs[:2]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "_BLOCK", 2 * block)
        patch.setattr(planner, "_SCORES", block * 100)
        planner.plan.cache_clear()
        output = by_blocks(*inputs, pattern, cross=role == "cross", layer=3)
        sparse = HeadPatterns((pattern,), 3).sparse_weights(*detached, causal=False, cross=role == "cross")
        planner.plan.cache_clear()
    assert sparse.is_sparse
    made = torch.einsum("hqk,khd->qhd", sparse.to_dense(), inputs[2])
    torch.testing.assert_close(made, output, atol=1e-9, rtol=1e-9)
    masks = [pattern.bind(queries, keys, cross=role == "cross", layer=3, head=h).mask() for h in range(heads)]
    check_equal(output, attended(*inputs, torch.stack(masks)), inputs)


@settings(max_examples=80, deadline=None)
@given(patterns | st.just(Full()), roles, st.integers(0, 40), st.integers(0, 40))
def test_dense(pattern: Pattern, role: str, queries: int, keys: int) -> None:
    keys, cross = (keys, True) if role == "cross" else (queries, False)
    inputs = tensors(queries, keys, 2)
    output = HeadPatterns((pattern,), 3, "dense").attend(*inputs, causal=role == "causal", cross=cross)
    pattern = pattern & Causal() if role == "causal" else pattern
    masks = [pattern.bind(queries, keys, cross=cross, layer=3, head=head).mask() for head in range(2)]
    check_equal(output, attended(*inputs, torch.stack(masks)), inputs)


@pytest.mark.parametrize("name", ["window", "dilated", "longformer", "bigbird"])
def test_how_tensors_lie_in_memory_is_nothing_to_it(name: str) -> None:
    length, heads, size = 300, 2, 4
    apart = [torch.randn(heads, size + 3, 2 * length, dtype=torch.float64) for _ in range(2)]
    query, key = (x[:, 1 : size + 1, ::2].permute(2, 0, 1).requires_grad_() for x in apart)
    value = torch.randn(length, 1, size, dtype=torch.float64).expand(-1, heads, -1).requires_grad_()
    lain = [query, key, value]
    packed = [x.detach().contiguous().requires_grad_() for x in lain]
    upstream = torch.ones((), dtype=torch.float64).expand(length, heads, size)
    found = []
    for inputs in (lain, packed):
        output = by_blocks(*inputs, PRESETS[name])
        found.append([output, *torch.autograd.grad(output, inputs, upstream)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_what_sees_nothing_is_zero_and_so_are_its_gradients() -> None:
    pattern = Window(1, 1) & Window(0, 3, 2) & Global((5,))
    inputs = tensors(300, 300, 2)
    output = by_blocks(*inputs, pattern)
    blind = ~pattern.bind(300, 300).mask().any(1)
    assert int(blind.sum()) > 250
    assert not output[blind].any()
    (by_query,) = torch.autograd.grad(output.sum(), inputs[:1])
    assert not by_query[blind].any()


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "full"])
def test_lengths_of_nothing_and_one(name: str) -> None:
    for queries, keys in ((0, 0), (1, 1), (0, 5), (5, 0)):
        inputs = tensors(queries, keys, 2)
        output = by_blocks(*inputs, PRESETS[name], cross=queries != keys)
        assert output.shape == inputs[0].shape
        if queries == keys == 1 and name != "random":
            torch.testing.assert_close(output, inputs[2])
        assert not torch.autograd.grad(output.sum(), inputs)[0].any()


@pytest.mark.parametrize("pattern", [Full(), Causal(), Window(1, 1) | Full()])
def test_a_share_of_all_pairs_has_no_blocks(pattern: Pattern) -> None:
    with pytest.raises(KotyaError, match="to leave out"):
        by_blocks(*tensors(8, 8, 1), pattern)


def test_heads_draw_by_their_own_numbers() -> None:
    """Random blocks of a head are the same whichever heads are computed beside it."""
    inputs = tensors(400, 400, 4)
    whole = attend_blocks(*inputs, PRESETS["bigbird"], layer=2, heads=(0, 1, 2, 3))
    half = attend_blocks(*(x[:, 2:] for x in inputs), PRESETS["bigbird"], layer=2, heads=(2, 3))
    torch.testing.assert_close(half, whole[:, 2:])


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "full"])
def test_in_bfloat16_it_is_as_near_as_that_can_be(name: str) -> None:
    """There and back, beside float32 of the same numbers; a global key gathers gradients of all queries."""
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        inputs = [x.detach().bfloat16().to(dtype).requires_grad_() for x in tensors(2000, 2000, 1, 16)]
        output = by_blocks(*inputs, PRESETS[name])
        upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(5)).to(dtype)
        results.append([output, *torch.autograd.grad(output, inputs, upstream)])
    for half, whole in zip(*results, strict=True):
        assert half.dtype == torch.bfloat16
        assert float((half.float() - whole).detach().norm()) <= 0.02 * float(whole.detach().norm())


@pytest.mark.parametrize("heads", [1, 12])
@pytest.mark.parametrize("pattern", [Window(9, 9) | Global(1), PRESETS["bigbird"]])
def test_dropout_leaves_the_mean_and_its_backward_sees_the_same_mask(pattern: Pattern, heads: int) -> None:
    """Few heads are multiplied one by one, and many block by block."""
    inputs = tensors(200, 200, heads)
    torch.manual_seed(3)
    outputs = torch.stack([by_blocks(*inputs, pattern, dropout=0.3) for _ in range(300)])
    narrow = by_blocks(*inputs, pattern)
    deviation = outputs.detach().std(0)[100:] / 300**0.5
    assert bool(((outputs.detach().mean(0) - narrow)[100:].abs() <= 5.5 * deviation + 1e-9).all())

    weights = torch.randn_like(inputs[0])

    def fixed(sign: int) -> Tensor:
        torch.manual_seed(4)
        moved = (x + sign * step for x, step in zip(inputs, steps, strict=True))
        return (by_blocks(*moved, pattern, dropout=0.3) * weights).sum()

    # along a line, by differences: the gradient is what the very same mask lets through
    steps = [1e-6 * torch.randn_like(x) for x in inputs]
    gradients = torch.autograd.grad(fixed(0), inputs)
    expected = sum((one * step).sum() for one, step in zip(gradients, steps, strict=True))
    torch.testing.assert_close((fixed(1) - fixed(-1)) / 2, expected, rtol=1e-5, atol=1e-12)


def test_wide_queries_read_no_keys_behind_the_last_that_they_see(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def dense(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, dropout: float) -> Tensor:
        read.append((len(query), len(key), len(value)))
        return attend_dense(query, key, value, seen, dropout)

    monkeypatch.setattr(blocks, "attend_dense", dense)
    x = torch.randn(600, 2, 4)
    for pattern in (Global((3, 40)) & Causal(), (Global(2) & Window(9, 9)) | Global((50,)), Global((3, 40))):
        by_blocks(x, x, x, pattern)
    assert read == [(2, 41, 41), (3, 600, 600), (2, 600, 600)]


def test_no_two_blocks_of_queries_drop_alike() -> None:
    """Equal weights and values of 1: an output is the share of its weights that is kept."""
    length, cpu = 192, torch.device("cpu")
    size = planner.plan(Window(40, 40), length, length, False, 0, (0,), torch.float32, cpu).queries.size
    query, value = torch.zeros(length, 2, 4), torch.ones(length, 2, 4)
    kept = by_blocks(query, query, value, Window(40, 40), dropout=0.5)[size:-size, :, 0]
    shares = kept.unflatten(0, (-1, size)).flatten(1)
    assert len(shares.unique(dim=0)) == len(shares) == length / size - 2 > 3


LINEAR_IN_LENGTH: dict[str, Any] = {
    **{name: name for name in PRESETS if name != "full"},
    "heads": {"kind": "heads", "of": ["window", "full"]},
    "elu": "linear",
    "favor": {"kind": "linear", "features": "favor", "size": 16},
    "linformer": {"kind": "linformer", "size": 16},
}


@pytest.mark.parametrize("role", ["self", "causal", "cross"])
@pytest.mark.parametrize("name", LINEAR_IN_LENGTH)
def test_no_square_of_the_length_is_allocated(name: str, role: str) -> None:
    """Forward and backward: twice the length takes about twice the memory, where a square would take four times."""
    if name == "linformer" and role == "causal":
        pytest.skip("it has no causal form")
    config: Any = TypeAdapter(AttentionConfig).validate_python(LINEAR_IN_LENGTH[name])
    form = form_of(config, layer=0, heads=2, head_size=8, max_length=4096, kernel="auto")
    assert form is not None
    held = []
    for length in (2048, 4096):
        keys = length - length // 8 if role == "cross" else length
        inputs = [torch.randn(1, n, 2, 8, requires_grad=True) for n in (length, keys, keys)]
        read = partial(form.rows, *inputs, None, causal=role == "causal", cross=role == "cross")
        planner.plan.cache_clear()
        held.append(peak_memory(lambda read=read: read().sum().backward(), torch.device("cpu")))
    assert held[1] < 2.3 * held[0]


@pytest.mark.parametrize("name", ["longformer", "bigbird", "favor", "far", "recorded"])
def test_no_square_of_32k_is_allocated(name: str) -> None:
    """A square of bits would be 128 MiB."""
    length, size = 32_768, 8
    far = {"kind": "window", "left": 3, "right": 3, "dilation": 8192}
    some: Any = {
        "far": far,
        "recorded": {"kind": "any", "of": [{"kind": "window", "left": 5, "right": 5}, "global"]},
    }
    config: Any = TypeAdapter(AttentionConfig).validate_python((LINEAR_IN_LENGTH | some)[name])
    form = form_of(config, layer=0, heads=1, head_size=size, max_length=length, kernel="auto")
    assert form is not None
    inputs = [torch.randn(1, length, 1, size, requires_grad=True) for _ in range(3)]

    def read() -> None:
        if name == "recorded":
            weights = form.sparse_weights(
                [(inputs[0][0], inputs[1][0])], length, length, causal=False, cross=False
            )
            assert weights is not None
            torch.testing.assert_close(weights.sum((1, 3)).to_dense(), torch.ones(1, length))
        else:
            form.rows(*inputs, None).sum().backward()

    assert peak_memory(read, torch.device("cpu")) < length**2 / 8
