"""Patterns against plain loops, and layouts against the patterns they are cut from."""

import time
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from attention_oracle import patterns, windows
from kotya.attention.block_patterns import Ends, Neighbours, Random
from kotya.attention.choices import AttentionConfig
from kotya.attention.counters import draw_distinct
from kotya.attention.cuts import Cut
from kotya.attention.layout import layout
from kotya.attention.patterns import Causal, Full, Global, Pattern, Window
from kotya.attention.presets import PRESETS
from kotya.errors import KotyaError

# the types of what is drawn are checked by samples
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def by_loops(pattern: Window, queries: int, keys: int) -> list[list[bool]]:
    """A window, key by key."""
    seen = []
    for query in range(queries):
        centre = query if queries == keys else min(query * keys // queries, keys - 1)
        reach = {centre + step * pattern.dilation for step in range(-pattern.left, pattern.right + 1)}
        seen.append([key in reach for key in range(keys)])
    return seen


@settings(deadline=None)
@given(windows, st.integers(0, 20), st.integers(0, 20))
def test_a_window(pattern: Window, queries: int, keys: int) -> None:
    assert pattern.bind(queries, keys).mask().tolist() == by_loops(pattern, queries, keys)


def test_what_is_global_sees_all_and_is_seen_by_all() -> None:
    for pattern in (Global(2), Global((0, 1))):
        mask = pattern.bind(6, 6).mask()
        assert mask.tolist() == [[q < 2 or k < 2 for k in range(6)] for q in range(6)]


@settings(deadline=None)
@given(patterns, st.integers(0, 20), st.integers(0, 20))
def test_what_a_text_does_not_reach_does_not_matter(pattern: Pattern, length: int, more: int) -> None:
    """The start of a longer text sees of itself what it would alone, unless it must know where the text ends."""
    if not pattern.knows_the_end():
        alone, beside = (pattern.bind(n, n, layer=1, head=2).mask() for n in (length, length + more))
        assert torch.equal(beside[:length, :length], alone)


@settings(deadline=None)
@given(patterns, patterns, st.integers(4, 30), st.booleans())
def test_what_wide_queries_see_is_said_more_simply(
    one: Pattern, other: Pattern, length: int, causal: bool
) -> None:
    for pattern in (one | other, one & other):
        bound = (pattern & Causal() if causal else pattern).bind(length, length, layer=1, head=2)
        simple = bound.pattern.widely(bound.place).bind(length, length, layer=1, head=2)
        wide = list(bound.pattern.wide(bound.place))
        assert torch.equal(simple.mask()[wide], bound.mask()[wide])


def test_a_mask_of_wide_queries_is_made_where_they_miss_something_alone() -> None:
    place = PRESETS["bigbird"].bind(1000, 1000).place
    assert PRESETS["bigbird"].widely(place) == Full()
    assert (PRESETS["bigbird"] & Causal()).widely(place) == Causal()


@settings(deadline=None)
@given(patterns, patterns, st.integers(0, 40))
def test_union_and_intersection(one: Pattern, other: Pattern, length: int) -> None:
    a, b = (pattern.bind(length, length).mask() for pattern in (one, other))
    assert torch.equal((one | other).bind(length, length).mask(), a | b)
    assert torch.equal((one & other).bind(length, length).mask(), a & b)


@example(Window(3, 0, 4) | Random(1, 1, 5), True, 1, 25, 25, 3)  # by a block that is past the end
@settings(max_examples=300, deadline=None)
@given(
    patterns,
    st.booleans(),
    st.sampled_from([1, 2, 3, 4, 8, 16]),
    st.integers(4, 50),
    st.integers(4, 50),
    st.sampled_from([1, 1, 2, 3]),
)
def test_a_layout_is_the_pattern(
    pattern: Pattern, causal: bool, block: int, queries: int, keys: int, stride: int
) -> None:
    if causal:
        pattern, keys = pattern & Causal(), queries
    bound = pattern.bind(queries, keys, layer=1, head=2)
    cut = layout(bound, block, stride if queries == keys else 1)
    assert cut is not None
    narrow = [query for query in range(queries) if query not in cut.wide]
    assert torch.equal(cut.mask()[narrow], bound.mask()[narrow])
    assert bool(cut.tiles[cut.tile].flatten(1).any(1).all())
    pairs = torch.stack([cut.query, cut.key], dim=1)
    assert torch.equal(pairs, pairs.unique(dim=0))


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 4), st.integers(-3, 45), st.integers(-3, 45))
def test_a_cut(length: int, size: int, stride: int, first: int, last: int) -> None:
    cut = Cut(length, size, stride)
    positions = cut.positions(torch.arange(cut.count)).flatten()
    assert sorted(p for p in positions.tolist() if p < length) == list(range(length))
    every = torch.arange(length)
    assert bool((cut.first(cut.of(every)) <= every).all() and (every <= cut.last(cut.of(every))).all())
    found = cut.between(torch.tensor([first]), torch.tensor([last]))[:, 1].tolist()
    assert {int(cut.of(torch.tensor(p))) for p in range(max(first, 0), min(last + 1, length))} <= set(found)
    assert len(found) == len(set(found))
    assert all(0 <= block < cut.count for block in found)


@pytest.mark.parametrize(
    "pattern", [Full(), Causal(), Full() & Causal(), Full() | Window(1, 1), Causal() | Window(1, 1)]
)
def test_what_is_a_share_of_all_pairs_has_no_layout(pattern: Pattern) -> None:
    assert layout(pattern.bind(9, 9), 4) is None


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 9), st.integers(1, 3), st.integers(10, 60), st.integers(1, 40))
def test_what_was_drawn_stays_when_a_text_grows(
    blocks: int, seed: int, size: int, length: int, more: int
) -> None:
    pattern = Random(blocks, seed, size)
    short, long = (pattern.bind(n * size, n * size).mask() for n in (length, length + more))
    assert torch.equal(long[: length * size, : length * size], short)


def test_each_block_draws_as_many_as_asked_each_as_likely() -> None:
    below = torch.full((4000,), 12)
    drawn = draw_distinct((3, 1), below, 5)
    assert all(len(set(row)) == 5 for row in drawn.tolist())
    share = torch.bincount(drawn.flatten(), minlength=12) / len(below)
    torch.testing.assert_close(share, torch.full((12,), 5 / 12), atol=0.04, rtol=0)
    assert not torch.equal(drawn, draw_distinct((3, 2), below, 5))
    assert draw_distinct((0,), torch.arange(5), 3).tolist()[:4] == [
        [-1] * 3,
        [0, -1, -1],
        [0, 1, -1],
        [0, 1, 2],
    ]


def test_seeds_layers_and_heads_draw_their_own() -> None:
    masks = [
        Random(2, seed, 4).bind(200, 200, layer=layer, head=head).mask()
        for seed, layer, head in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert all(not torch.equal(one, other) for i, one in enumerate(masks) for other in masks[:i])


def test_no_square_is_made_at_any_length() -> None:
    """64k positions: a mask would have 4 · 10⁹ cells."""
    for name, pattern in PRESETS.items():
        for whole in (pattern, pattern & Causal()):
            began = time.perf_counter()
            cut = layout(whole.bind(65_536, 65_536), 64)
            assert time.perf_counter() - began < 20
            if name != "full":
                assert cut is not None
                assert len(cut.query) < 65_536 / 64 * 30
                assert len(cut.tiles) < 100


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window(-1, 3), "0 or more keys"),
        (lambda: Window(1, 3, dilation=0), "dilation is 1 or more"),
        (lambda: Global((-1,)), "counted from 0"),
        (lambda: (Window(1, 1) & Causal()).bind(3, 4), "a causal pattern is of one sequence"),
        (lambda: Random(-1), "0 or more"),
        (lambda: Neighbours(0), "one position at least"),
        (lambda: Ends(0), "one position at least"),
    ],
)
def test_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(KotyaError, match=message):
        make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "window", "left": 10**30}, "less than or equal to"),
        ({"kind": "window", "dilation": 10**30}, "less than or equal to"),
        ({"kind": "global", "positions": True}, "valid integer"),
        ({"kind": "random", "blocks": 10**30}, "less than"),
        ({"kind": "random", "seed": 10**30}, "less than"),
        ({"kind": "linear", "size": 64}, "it is of features: favor; of elu none are drawn"),
        ({"kind": "linear", "features": "relu", "redraw": 5}, "it is of features: favor"),
    ],
)
def test_settings_that_no_pattern_has(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(AttentionConfig).validate_python(settings)


def test_more_blocks_than_there_are_is_all_of_them() -> None:
    drawn = draw_distinct((1,), torch.tensor([0, 3, 5]), 50_000)
    assert [sorted(row[row >= 0].tolist()) for row in drawn] == [[], [0, 1, 2], [0, 1, 2, 3, 4]]


def test_nothing_and_one() -> None:
    for pattern in PRESETS.values():
        assert pattern.bind(0, 0).mask().shape == (0, 0)
        assert pattern.bind(1, 1).mask().shape == (1, 1)
        for length in (0, 1):
            cut = layout(pattern.bind(length, length), 64)
            assert cut is None or cut.mask().shape == (length, length)
