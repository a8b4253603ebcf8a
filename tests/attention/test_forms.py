"""Every form of attention in every role of a layer: packed, padded, step by step and across, with its weights."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from attention_oracle import attended
from kotya.attention import block_patterns
from kotya.attention.block_patterns import Ends
from kotya.attention.block_sparse import BlockSparse
from kotya.attention.choices import AttentionConfig, form_of
from kotya.attention.counters import draw_distinct
from kotya.attention.forms import Linformer, Patterned
from kotya.attention.head_patterns import SHORT, HeadPatterns, choose
from kotya.attention.kernels import padding_mask
from kotya.attention.multihead import MultiHeadAttention, Padding
from kotya.attention.packed import Packing
from kotya.attention.patterns import Causal, Full, Window
from kotya.attention.positions import rotation
from kotya.attention.presets import PRESETS
from kotya.attention.recorder import record_attention
from kotya.errors import KotyaError

SIZE, HEADS = 16, 4
SMALL_BIGBIRD = {
    "kind": "any",
    "of": [
        {"kind": "window", "left": 3, "right": 3},
        {"kind": "global", "positions": 2},
        {"kind": "random", "blocks": 2, "size": 4},
    ],
}
FORMS: dict[str, Any] = {
    "full": "full",
    "window": {"kind": "window", "left": 4, "right": 2},
    "dilated": {"kind": "window", "left": 3, "right": 0, "dilation": 3},
    "global-only": {"kind": "global", "positions": [1, 5]},
    "far": {
        "kind": "any",
        "of": [{"kind": "window", "left": 2, "right": 2}, {"kind": "global", "positions": [90, 7]}],
    },
    "bigbird": SMALL_BIGBIRD,
    "global": {"kind": "global", "positions": 3},
    "random": {"kind": "random", "blocks": 1, "size": 4},
    "both": {"kind": "any", "of": [{"kind": "global"}, {"kind": "random", "blocks": 2, "size": 2}]},
    "heads": {"kind": "heads", "of": [{"kind": "window", "left": 2, "right": 2, "dilation": 2}, "full"]},
    "elu": "linear",
    "relu": {"kind": "linear", "features": "relu"},
    "favor": {"kind": "linear", "features": "favor", "size": 24},
    "linformer": {"kind": "linformer", "size": 6},
    "block-sparse": {"kind": "block_sparse", "size": 2, "random": 1},
}
WHOLE = ("linformer", "block-sparse")
"""They have no causal form."""
every = pytest.mark.parametrize("name", FORMS)
causal_ones = pytest.mark.parametrize("name", [name for name in FORMS if name not in WHOLE])


def build(name: str, kernel: str = "auto", **options: Any) -> MultiHeadAttention:
    torch.manual_seed(1)
    config: Any = TypeAdapter(AttentionConfig).validate_python(FORMS[name])
    form = form_of(
        config,
        layer=2,
        heads=HEADS,
        head_size=SIZE // HEADS,
        max_length=200,
        kernel=kernel,  # type: ignore[arg-type]
    )
    options = {"rotary": False, **options}
    layer = MultiHeadAttention(SIZE, HEADS, dropout=0.0, bias=True, form=form, **options)
    for parameter in layer.parameters():
        parameter.data.mul_(2.0)
    return layer.eval()


def texts(*lengths: int) -> tuple[Tensor, Packing]:
    torch.manual_seed(2)
    return torch.randn(sum(lengths), SIZE), Packing.of(lengths)


@every
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", ["dense", "blocks"])
def test_4_packed_is_padded_is_each_text_alone(name: str, causal: bool, kernel: str) -> None:
    if kernel == "blocks" and (
        "full" in str(FORMS[name]) or "line" in str(FORMS[name]) or "linformer" in name
    ):
        pytest.skip("no blocks to leave out")
    if causal and name in WHOLE:
        pytest.skip("it has no causal form")
    layer, lengths = build(name, kernel), (7, 40, 1, 23)
    x, packing = texts(*lengths)
    x.requires_grad_()
    packed = layer.packed(x, packing, causal=causal)
    alone = torch.cat([layer.packed(one, Packing.of([len(one)]), causal=causal) for one in x.split(lengths)])
    torch.testing.assert_close(packed, alone, atol=2e-5, rtol=1e-4)
    weights = torch.randn_like(packed)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (packed, alone)]
    torch.testing.assert_close(*gradients, atol=5e-5, rtol=1e-3)
    padding = Padding.of(packing.counts, packing.longest, x.dtype)
    padded = packing.unpad(layer(packing.pad(x), padding, causal=causal))
    torch.testing.assert_close(padded, packed, atol=2e-5, rtol=1e-4)


@every
@pytest.mark.parametrize("causal", [False, True])
def test_recorded_weights_make_the_output(name: str, causal: bool) -> None:
    if causal and name in WHOLE:
        pytest.skip("it has no causal form")
    layer = build(name)
    x, packing = texts(9, 30)
    with record_attention(layer) as maps:
        recorded = layer.packed(x, packing, causal=causal)
    torch.testing.assert_close(recorded, layer.packed(x, packing, causal=causal), atol=1e-5, rtol=1e-4)
    (weights,) = maps[""]
    values = packing.pad(layer.value(x).unflatten(-1, (HEADS, -1)))
    if isinstance(layer.form, Linformer):
        _, values = layer.form.projection(values, values, packing.counts)
    made = torch.einsum("nhqk,nkhs->nqhs", weights, values)
    torch.testing.assert_close(layer.output(packing.unpad(made).flatten(1)), recorded, atol=1e-5, rtol=1e-4)


@every
@pytest.mark.parametrize("causal", [False, True])
def test_sparse_weights_are_the_weights(name: str, causal: bool) -> None:
    """Of packed texts, of rows, and across; what has no sparse ones gives all, as ever."""
    if causal and name in WHOLE:
        pytest.skip("it has no causal form")
    layer = build(name)
    x, packing = texts(9, 180, 70)
    rows, padding = packing.pad(x), Padding.of(packing.counts, packing.longest, x.dtype)
    other = torch.randn(3, 50, SIZE)
    found = []
    for sparse in (False, True):
        with record_attention(layer, sparse=sparse) as maps:
            outputs = [
                layer.packed(x, packing, causal=causal),
                packing.unpad(layer(rows, padding, causal=causal)),
            ]
            if name != "block-sparse" and not causal:
                outputs.append(
                    layer.attend(layer.queries(other), *layer.keys_values(rows), padding, cross=True)
                )
        found.append((maps[""], outputs))
    (whole, expected), (weights, outputs) = found
    for mine, theirs in zip(outputs, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    real = padding_mask(packing.counts, packing.longest, x.dtype)
    assert real is not None
    for place, (mine, theirs) in enumerate(zip(weights, whole, strict=True)):
        assert mine.is_sparse == isinstance(layer.form, Patterned | BlockSparse)
        if place < 2:
            theirs = theirs.masked_fill(real.transpose(2, 3) < 0, 0.0)
            mine = mine.to_dense().masked_fill(real.transpose(2, 3) < 0, 0.0)
        torch.testing.assert_close(mine.to_dense(), theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["bigbird", "heads", "block-sparse"])
def test_sparse_weights_are_float32_and_part_of_no_graph(name: str) -> None:
    layer = build(name).to(torch.bfloat16)
    x, packing = texts(9, 180)
    with record_attention(layer, differentiable=True, sparse=True) as sparse:
        layer.packed(x.bfloat16(), packing)
    with record_attention(layer) as whole:
        layer.packed(x.bfloat16(), packing)
    (mine,), (theirs,) = sparse[""], whole[""]
    assert not mine.requires_grad
    torch.testing.assert_close(mine.to_dense()[1], theirs[1], atol=1e-2, rtol=1e-2)


@causal_ones
@pytest.mark.parametrize("parts", [(60,), (1,) * 60, (20, 1, 1, 30, 8)])
def test_2_step_by_step_is_all_at_once(name: str, parts: tuple[int, ...]) -> None:
    layer = build(name)
    x = torch.randn(2, 60, SIZE)
    whole = layer(x, None, causal=True)
    cache, seen, start = layer.new_cache(2, x), [], 0
    for n in parts:
        positions = torch.arange(start, start + n).expand(2, -1)
        mask = torch.full((n, start + n), -torch.inf).triu(start + 1)[None, None]
        seen.append(layer.extend(x[:, start : start + n], cache, positions, mask))
        start += n
    torch.testing.assert_close(torch.cat(seen, dim=1), whole, atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["elu", "relu", "favor", "linformer"])
def test_linear_forms_under_autocast(name: str, causal: bool) -> None:
    """As without it, to the bit; and as in float32 but for the rounding of what goes in and comes out."""
    if causal and name in WHOLE:
        pytest.skip("it has no causal form")
    form = build(name).form
    assert form is not None
    inputs = [torch.randn(2, 80, HEADS, 4).bfloat16().requires_grad_() for _ in range(3)]
    upstream, lengths = torch.randn(2, 80, HEADS, 4).bfloat16(), torch.tensor([80, 50])
    found = []
    for kind, inside in ((torch.bfloat16, True), (torch.bfloat16, False), (torch.float32, False)):
        tensors = [x.to(kind) for x in inputs]
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            output = form.rows(*tensors, lengths, causal=causal)
            gradients = torch.autograd.grad(output, tensors, upstream.to(kind))
        found.append((output.detach(), *gradients))
    for under, without, exact in zip(*found, strict=True):
        assert torch.equal(under, without)
        assert float((under - exact).norm() / exact.norm()) < 0.03


@torch.no_grad()
def test_blocks_are_drawn_once_while_a_text_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every step, which would cost more with each: once a block, in every head."""
    calls = []

    def drawn(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return draw_distinct(*arguments)

    monkeypatch.setattr(block_patterns, "draw_distinct", drawn)
    block_patterns._draw.cache_clear()
    layer = build("random")
    cache, steps, block = layer.new_cache(2, torch.empty(0)), 30, 4
    for place in range(steps):
        layer.extend(torch.randn(2, 1, SIZE), cache, torch.full((2, 1), place), None)
    assert len(calls) == HEADS * -(-steps // block)


@pytest.mark.parametrize("name", ["window", "dilated", "global-only", "far", "bigbird", "elu"])
@torch.no_grad()
def test_rows_of_any_age_share_a_cache(name: str) -> None:
    """Rows are reordered, dropped and joined by younger ones, and go on as they would alone."""
    layer = build(name)
    x = torch.randn(3, 120, SIZE)
    whole = layer(x, None, causal=True)

    def step(cache: Any, rows: list[int], places: list[int]) -> Tensor:
        places_ = torch.tensor(places)[:, None]
        columns = max(places) + 1
        used = torch.arange(columns) >= columns - 1 - places_
        mask = torch.zeros(len(rows), 1, 1, columns).masked_fill_(~used[:, None, None], -torch.inf)
        new = torch.stack([x[row, place] for row, place in zip(rows, places, strict=True)])
        output = layer.extend(new[:, None], cache, places_, mask)
        expected = torch.stack([whole[row, place] for row, place in zip(rows, places, strict=True)])
        torch.testing.assert_close(output[:, 0], expected, atol=3e-5, rtol=1e-4)
        return output

    old, young = layer.new_cache(2, x), layer.new_cache(1, x)
    for place in range(85):
        step(old, [0, 1], [place] * 2)
    for place in range(4):
        step(young, [2], [place])
    both = old.select(torch.tensor([1, 0]), 85).join(young)
    step(both, [1, 0, 2], [85, 85, 4])
    both = both.select(torch.tensor([2, 0]), 86)
    for later in range(30):
        step(both, [2, 1], [5 + later, 86 + later])


@torch.no_grad()
def test_a_window_forgets_what_it_cannot_see_any_more() -> None:
    layer = build("window")
    cache = layer.new_cache(1, torch.empty(0))
    for place in range(400):
        layer.extend(torch.randn(1, 1, SIZE), cache, torch.tensor([[place]]), None)
    assert cache.recent.filled < 80  # type: ignore[attr-defined]


@pytest.mark.parametrize("prompt", [1, 40, 93])
@torch.no_grad()
def test_a_cache_keeps_a_global_position_but_not_those_before_it(prompt: int) -> None:
    """Until its query has come it needs all of them; a text that ends before has no such position."""
    layer = build("far")
    x = torch.randn(2, 200, SIZE)
    whole, cache, seen, start = layer(x, None, causal=True), layer.new_cache(2, x), [], 0
    for n in [prompt] + [1] * (200 - prompt):
        positions = torch.arange(start, start + n).expand(2, -1)
        seen.append(layer.extend(x[:, start : start + n], cache, positions, None))
        start += n
        assert cache.store.shape[2] <= 2  # type: ignore[attr-defined]
    torch.testing.assert_close(torch.cat(seen, dim=1), whole, atol=3e-5, rtol=1e-4)
    assert cache.recent.filled < 80  # type: ignore[attr-defined]


def test_a_pattern_of_the_end_is_not_decoded() -> None:
    form = Patterned(HeadPatterns((Ends(4),)))
    key, lengths = torch.randn(1, 9, 2, 4), torch.tensor([9])
    for keep in (lambda: form.new_cache(1, 2, 4, key), lambda: form.source(key, key, lengths)):
        with pytest.raises(KotyaError, match="the end is not known"):
            keep()


across = ("full", "global", "global-only", "random", "both", "elu", "favor", "linformer")


@pytest.mark.parametrize("name", across)
@torch.no_grad()
def test_2_across_step_by_step_is_all_at_once(name: str) -> None:
    """All lines; and one that is alone for a while, with what is left of it, before another joins it."""
    layer = build(name)
    memory, lengths = torch.randn(3, 20, SIZE), torch.tensor([20, 4, 11])
    x = torch.randn(3, 9, SIZE)
    padding = Padding.of(lengths, 20, x.dtype)
    key, value = layer.keys_values(memory)
    whole = layer.attend(layer.queries(x), key, value, padding, cross=True)
    source = layer.source(memory, memory, lengths)
    for start, stop in ((0, 1), (1, 3), (3, 4), (4, 9)):
        positions = torch.arange(start, stop).expand(3, -1)
        read = layer.across(layer.queries(x[:, start:stop]), source, padding.mask, positions)
        torch.testing.assert_close(read, whole[:, start:stop], atol=2e-5, rtol=1e-4)
    kept, places = torch.tensor([1, 0]), torch.tensor([[3], [8]])
    fewer = source.select(kept[:1], 4).join(source.select(kept[1:], 20))
    queries = torch.stack([x[1, 3:4], x[0, 8:9]])
    mask = Padding.of(lengths[kept], 20, x.dtype).mask
    read = layer.across(layer.queries(queries), fewer, mask, places)
    torch.testing.assert_close(read[:, 0], torch.stack([whole[1, 3], whole[0, 8]]), atol=2e-5, rtol=1e-4)


def test_a_window_across_two_texts_is_not_decoded() -> None:
    memory = torch.randn(1, 5, SIZE)
    for name in ("window", "bigbird"):
        with pytest.raises(KotyaError, match="search does not know how long its text will be"):
            build(name).source(memory, memory, torch.tensor([5]))


@pytest.mark.parametrize("name", ["window", "bigbird"])
def test_patterns_across_two_texts(name: str) -> None:
    """In proportion to the length of both."""
    layer = build(name)
    assert isinstance(layer.form, Patterned)
    query, key, value = (torch.randn(2, n, HEADS, 4) for n in (30, 50, 50))
    output = layer.form.rows(query, key, value, torch.tensor([50, 35]), cross=True)
    for row, keys in ((0, 50), (1, 35)):
        mask = layer.form.patterns.mask(30, keys, HEADS, cross=True)
        expected = attended(query[row], key[row, :keys], value[row, :keys], mask)
        torch.testing.assert_close(output[row], expected, atol=1e-5, rtol=1e-4)


def test_global_queries_read_by_their_own_projections() -> None:
    layer = build("global-only", global_projections=True)
    x, packing = texts(30, 12)
    output = layer.packed(x, packing)
    plain = build("global-only")
    plain.load_state_dict(layer.state_dict(), strict=False)
    others = [i for i in range(42) if packing.positions[i] not in (1, 5)]
    torch.testing.assert_close(output[others], plain.packed(x, packing)[others])
    query, key, value = (projection(x[:30]).unflatten(-1, (HEADS, -1)) for projection in layer.wide.values())
    mask = torch.ones(30, 30, dtype=torch.bool)
    expected = layer.output(attended(query, key, value, mask).flatten(1))
    torch.testing.assert_close(output[[1, 5]], expected[[1, 5]], atol=1e-5, rtol=1e-4)


WIDE: dict[str, Any] = {
    "global-only": FORMS["global-only"],
    "longformer": {"kind": "any", "of": [{"kind": "window", "left": 2, "right": 2}, "global"]},
    "heads": {"kind": "heads", "of": [{"kind": "window", "left": 2, "right": 2}, "global"]},
    "window": FORMS["window"],
}


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("kernel", ["dense", "blocks"])
@pytest.mark.parametrize("name", WIDE)
def test_global_projections_are_the_same_packed_padded_and_recorded(
    name: str, kernel: str, rotary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights, which global queries have by their own queries and keys, make the output with their own values."""
    monkeypatch.setitem(FORMS, name, WIDE[name])
    layer = build(name, kernel, global_projections=True, rotary=rotary)
    assert isinstance(layer.form, Patterned)
    x, packing = texts(9, 30, 6)
    angles = rotation(packing.positions, SIZE // HEADS, x.dtype) if rotary else None
    packed = layer.packed(x, packing, rotation=angles)
    alone = [
        layer.packed(one, Packing.of([len(one)]), rotation=None if angles is None else (cos, sin))
        for one, cos, sin in zip(
            *(part.split(packing.lengths) for part in (x, *(angles or (x, x)))), strict=True
        )
    ]
    torch.testing.assert_close(packed, torch.cat(alone), atol=2e-5, rtol=1e-4)
    with record_attention(layer) as maps:
        recorded = layer.packed(x, packing, rotation=angles)
    torch.testing.assert_close(recorded, packed, atol=2e-5, rtol=1e-4)
    padding = Padding.of(packing.counts, packing.longest, x.dtype)
    positions = torch.arange(packing.longest)[None] if rotary else None
    padded = layer(packing.pad(x), padding, positions=positions)
    torch.testing.assert_close(packing.unpad(padded), packed, atol=2e-5, rtol=1e-4)
    with record_attention(layer, sparse=True) as sparse:
        torch.testing.assert_close(layer.packed(x, packing, rotation=angles), packed, atol=2e-5, rtol=1e-4)
    (weights,), (same,) = maps[""], sparse[""]
    for row, length in enumerate(packing.lengths):
        torch.testing.assert_close(
            same[row].to_dense()[:, :length], weights[row, :, :length], atol=1e-5, rtol=1e-4
        )
    wide = layer.form.patterns.wide(packing.longest, HEADS)[None, :, :, None]
    assert bool(wide.any()) == (name != "window")
    narrow, other = (
        torch.einsum("nhqk,nkhs->nhqs", weights, packing.pad(value(x).unflatten(-1, (HEADS, -1))))
        for value in (layer.value, layer.wide["value"])
    )
    made = packing.unpad(torch.where(wide, other, narrow).transpose(1, 2)).flatten(1)
    torch.testing.assert_close(layer.output(made), packed, atol=2e-5, rtol=1e-4)


def test_the_kernel_is_chosen_by_length_and_device_and_never_changed_in_silence() -> None:
    window, cpu, gpu = Window(9, 9), torch.device("cpu"), torch.device("cuda")
    assert choose("auto", window, SHORT, 64, cpu, 0.0) == "dense"
    assert choose("auto", window, SHORT + 1, 64, cpu, 0.0) == "blocks"
    assert choose("auto", window, SHORT + 1, 64, gpu, 0.0) == "flex"
    assert choose("auto", window, SHORT + 1, 8, gpu, 0.0) == "blocks"
    assert choose("auto", window, SHORT + 1, 64, gpu, 0.1) == "blocks"
    assert choose("auto", Causal(), 99_999, 64, cpu, 0.0) == "dense"
    for asked, pattern, size, device, dropout, message in (
        ("blocks", Full(), 64, cpu, 0.0, "none to leave out"),
        ("flex", window, 64, cpu, 0.0, "needs a GPU"),
        ("flex", window, 8, gpu, 0.0, "heads of 16 and more"),
        ("flex", window, 64, gpu, 0.1, "no dropout"),
    ):
        with pytest.raises(KotyaError, match=message):
            choose(asked, pattern, 9999, size, device, dropout)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "window", "left": -1}, "greater than or equal to 0"),
        ({"kind": "window", "dilation": 0}, "greater than or equal to 1"),
        ("sliding", "full"),
        ({"kind": "linear", "features": "tanh"}, "elu"),
        ({"kind": "linear", "features": "favor", "size": 15}, "multiple of 2"),
        ({"kind": "any", "of": []}, "at least 1"),
    ],
)
def test_bad_settings(config: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(AttentionConfig).validate_python(config)


def test_heads_that_cannot_share_patterns() -> None:
    config: Any = TypeAdapter(AttentionConfig).validate_python(
        {"kind": "heads", "of": ["full", "window", "window"]}
    )
    with pytest.raises(KotyaError, match="4 heads cannot share 3 patterns"):
        form_of(config, layer=0, heads=4, head_size=4, max_length=9, kernel="auto")


def test_every_preset_has_its_name() -> None:
    for name in PRESETS:
        config: Any = TypeAdapter(AttentionConfig).validate_python(name)
        assert config.pattern() == PRESETS[name]


@pytest.mark.parametrize("config", ["linear", {"kind": "linear", "features": "favor", "size": 8}])
def test_texts_of_mixed_lengths_in_parts_are_each_alone(config: Any) -> None:
    """Padding is a part of what is real, and features are renewed once a pass, in however many parts."""
    form = form_of(
        TypeAdapter(AttentionConfig).validate_python(config),
        layer=0,
        heads=2,
        head_size=4,
        max_length=2000,
        kernel="auto",
    )
    assert form is not None
    packing = Packing.of([1, 2, 3, 700, 5, 900, 1500, 1501])
    assert len(packing.alike) > 3
    assert sum(len(part.lengths) * part.longest - part.tokens for part in packing.alike) < packing.tokens / 2
    assert [length for part in packing.alike for length in part.lengths] == list(packing.lengths)
    inputs = [torch.randn(packing.tokens, 2, 4) for _ in range(3)]
    form.eval()
    whole = form.packed(*inputs, packing, causal=False, dropout=0.0)
    texts = zip(*(x.split(packing.lengths) for x in inputs), strict=True)
    alone = [form.packed(*text, Packing.of([len(text[0])]), causal=False, dropout=0.0) for text in texts]
    torch.testing.assert_close(whole, torch.cat(alone), atol=1e-5, rtol=1e-4)
    if config != "linear":
        features = form.get_submodule("features")
        features.redraw, before = 9, int(features.passes)  # type: ignore[assignment, arg-type]
        form.train().packed(*inputs, packing, causal=False, dropout=0.0)
        assert int(features.passes) == before + 1  # type: ignore[arg-type]
