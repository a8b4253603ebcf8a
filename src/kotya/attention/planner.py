"""Makes the plans of patterns (see plan.py) from their layouts.

Making one takes milliseconds, and texts of one length share it: they are kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kotya.attention.cuts import Cut
from kotya.attention.layout import Layout, layout
from kotya.attention.patterns import Bound, Pattern
from kotya.attention.plan import Bands, BandStep, Draws, DrawStep, Plan, Run, Step
from kotya.errors import KotyaError

_BLOCK, _LARGE = 64, 128
"""Queries in a block where the pattern leaves it open; the latter in half precision and on a GPU, where products cost
less than what is around them."""
_NARROW = 7
"""Half of it where a block reads more keys than it has queries, but no more than so many times as many."""
_SHORTEST = 8
"""Positions of a block, at least."""
_VECTOR = 16
"""What is read begins and ends at columns in such numbers: products of these widths are faster."""
_SCORES = 1 << 18
"""Scores of a head in one step, at most: more would not stay in cache."""
_KEPT = 64
"""Plans that are kept."""


@lru_cache(_KEPT)
def plan(
    pattern: Pattern,
    queries: int,
    keys: int,
    cross: bool,
    layer: int,
    heads: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Plan:
    """The plan of a pattern for the layer and heads by which it is drawn; see `Pattern.drawers`.

    Raises KotyaError where the pattern makes no sense, or is a fixed share of all pairs: nothing is gained by blocks.
    """
    stride = 1 if cross or pattern.stride() >= keys else max(pattern.stride(), 1)
    bounds = [pattern.bind(queries, keys, cross=cross, layer=layer, head=head) for head in heads]
    grain, large = pattern.grain(), dtype.itemsize == 2 or device.type != "cpu"
    # no longer than a text, or than a remainder of a far dilation has positions
    most = max(queries, keys, 1) if grain else max(_SHORTEST, -(-keys // stride))
    size = min(grain or (_LARGE if large else _BLOCK), most)
    cuts = [_layout(bound, size, stride) for bound in bounds]
    if not grain and not large and size < _columns(cuts[0]) <= _NARROW * size:
        cuts = [_layout(bound, max(size // 2, _SHORTEST), stride) for bound in bounds]
    if pattern.drawn_by_head():
        steps, tiles = _draws(cuts, dtype, device)
        return Draws(cuts[0].queries, cuts[0].keys, steps, tiles)
    return Bands(cuts[0].queries, cuts[0].keys, _bands(cuts[0], dtype, device))


def _layout(bound: Bound, size: int, stride: int) -> Layout:
    """Without the blocks that hold wide queries alone, which are read apart. Raises KotyaError where there is none."""
    cut = layout(bound, size, stride)
    if cut is None:
        raise KotyaError(f"{bound.pattern} sees a fixed share of all keys: there are no blocks to leave out")
    blocks = torch.arange(cut.queries.count)
    wide = torch.bincount(cut.queries.of(torch.tensor(cut.wide, dtype=torch.long)), minlength=len(blocks))
    lengths = (cut.queries.positions(blocks) < cut.queries.length).sum(1)
    kept = (wide < lengths)[cut.query]
    return replace(cut, query=cut.query[kept], key=cut.key[kept], tile=cut.tile[kept])


def _run(cut: Cut, block: int) -> Run:
    """The positions of a block, without what is past the end."""
    remainder, start = block // cut.share, block % cut.share * cut.size
    end = -(-(cut.length - remainder) // cut.stride)
    return Run(remainder, start, min(start + cut.size, end))


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -torch.inf)


def _bands(cut: Layout, dtype: torch.dtype, device: torch.device) -> list[BandStep]:
    """Blocks of queries, those that see alike and follow each other together."""
    edges = _edges(cut.tiles).tolist()
    known: dict[object, _Parts] = {}
    steps: list[BandStep] = []
    rows, row = _Rows(cut), 0
    while row < len(rows.blocks):
        queries, runs, parts = _run(cut.queries, rows.blocks[row]), list[Run](), []
        for key, tile, shift in rows.pairs(row):
            (low, high), run = edges[tile], _run(cut.keys, key)
            runs.append(Run(run.remainder, run.start + low, min(run.start + high, run.stop), shift))
            parts.append((tile, low, low + len(runs[-1])))
        scores = len(queries) * sum(map(len, runs))
        count = min(rows.alike[row], max(_SCORES // max(scores, 1), 1))
        if count == 1:
            runs = [replace(run, shift=0) for run in runs]
        seen = (len(queries), *parts)
        if seen not in known:
            known[seen] = _Parts(cut.tiles, len(queries), parts, dtype, device)
        queries = replace(queries, shift=len(queries) if count > 1 else 0)
        steps.append(BandStep(queries, known[seen].blind, _joined(runs), known[seen].biases, count))
        row += count
    return steps


def _joined(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Neighbours that go on together."""
    found: list[Run] = []
    for run in runs:
        last = found[-1] if found else None
        if last and (last.remainder, last.stop, last.shift) == (run.remainder, run.start, run.shift):
            found[-1] = replace(last, stop=run.stop)
        else:
            found.append(run)
    return tuple(found)


class _Rows:
    """Blocks of queries, each with the blocks of keys that it sees."""

    def __init__(self, cut: Layout) -> None:
        blocks, counts = cut.query.unique_consecutive(return_counts=True)
        row = torch.arange(len(blocks)).repeat_interleave(counts)
        column = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        shape = len(blocks), int(counts.max()) if len(counts) else 0
        key, tile = torch.zeros(shape, dtype=torch.long), torch.full(shape, -1)
        key[row, column], tile[row, column] = cut.key, cut.tile
        whole = cut.queries.last(blocks) < cut.queries.length
        further = key.diff(dim=0)
        follows = (blocks.diff() == 1) & (blocks[1:] % cut.queries.share > 0) & whole[1:]
        follows &= (
            (tile.diff(dim=0) == 0) & (further >= 0) & ((key // max(cut.keys.share, 1)).diff(dim=0) == 0)
        ).all(1)
        steady = follows[:-1] & follows[1:] & (further.diff(dim=0) == 0).all(1)
        self.blocks: list[int] = blocks.tolist()
        self.counts: list[int] = counts.tolist()
        self.key, self.tile, self.shift = key, tile, F.pad(further, (0, 0, 0, 1)) * cut.keys.size
        self.alike: list[int] = (1 + F.pad(follows * (1 + F.pad(_ahead(steady), (0, 1))), (0, 1))).tolist()
        """How many there are from each on that see alike, all by as much further on."""

    def pairs(self, row: int) -> list[tuple[int, int, int]]:
        """The blocks of keys of a row, their tiles, and how many positions further on those of the next row are."""
        seen = torch.stack([self.key[row], self.tile[row], self.shift[row]], dim=1)[: self.counts[row]]
        return list(map(tuple, seen.tolist()))


def _ahead(mask: Bool[Tensor, " n"]) -> Int[Tensor, " n"]:
    """How many are true from each on."""
    place = torch.arange(len(mask))
    stop = place.masked_fill(mask, len(mask)).flip(0)
    return (stop.cummin(0).values if len(mask) else stop).flip(0) - place


def _columns(cut: Layout) -> int:
    """Keys that a block of queries reads, at most."""
    low, high = _edges(cut.tiles).unbind(1)
    return int(
        torch.zeros(cut.queries.count + 1).index_add(0, cut.query, (high - low)[cut.tile].float()).max()
    )


def _edges(tiles: Bool[Tensor, "tiles size size"]) -> Int[Tensor, "tiles 2"]:
    """The columns from which and up to which something is seen, and some more where products are faster by them."""
    seen, size = tiles.any(1).byte(), tiles.shape[2]
    low, high = seen.argmax(1), size - seen.flip(1).argmax(1)
    return torch.stack([low // _VECTOR * _VECTOR, (-(-high // _VECTOR) * _VECTOR).clamp(max=size)], dim=1)


class _Parts:
    """Parts of tiles side by side: biases of neighbours that are not seen whole, joined, and who sees nothing."""

    def __init__(
        self,
        tiles: Bool[Tensor, "tiles size size"],
        rows: int,
        parts: Sequence[tuple[int, int, int]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """A part: its tile, and from which column of it up to which."""
        allowed = [tiles[tile, :rows, low:high] for tile, low, high in parts]
        spans: list[tuple[int, list[Tensor]]] = []
        column, end = 0, -1
        for part in allowed:
            if not bool(part.all()):
                if column != end:
                    spans.append((column, []))
                spans[-1][1].append(part)
                end = column + part.shape[1]
            column += part.shape[1]
        self.biases = tuple(
            (start, _additive(torch.cat(found, dim=1)[None], dtype).to(device)) for start, found in spans
        )
        self.blind = _blind(torch.cat(allowed, dim=1)[None], device)


def _blind(allowed: Bool[Tensor, "heads size columns"], device: torch.device) -> Tensor | None:
    blind = ~allowed.any(2, keepdim=True)
    return blind.to(device) if bool(blind.any()) else None


def _draws(
    cuts: Sequence[Layout], dtype: torch.dtype, device: torch.device
) -> tuple[list[Step], Float[Tensor, "tiles size size"]]:
    """A step a block of queries, as many blocks for each head: what is lacking sees nothing, and stands first.

    Then come blocks of which a part is seen, and those that are seen whole; these need no bias.
    """
    share, size = cuts[0].keys.count, cuts[0].keys.size
    per_head, whole, tiles = [], [], [torch.zeros(1, size, size, dtype=torch.bool)]
    for cut in cuts:
        offset = sum(map(len, tiles))
        per_head.append(_by_query(cut, offset))
        whole += [tile + offset for tile in cut.tiles.flatten(1).all(1).nonzero()[:, 0].tolist()]
        tiles.append(cut.tiles)
    allowed, seen_whole = torch.cat(tiles), set(whole)
    steps: list[Step] = []
    for block in range(cuts[0].queries.count):
        seen = [heads.get(block, []) for heads in per_head]
        count = max(map(len, seen))
        if not count:
            continue
        partial = max(count - sum(tile in seen_whole for _, tile in pairs) for pairs in seen)
        blocks, partly = [], []
        for head, pairs in enumerate(seen):
            ordered = [(0, 0)] * (count - len(pairs)) + sorted(pairs, key=lambda pair: pair[1] in seen_whole)
            blocks += [head * share + key for key, _ in ordered]
            partly.append([tile for _, tile in ordered[:partial]])
        queries = _run(cuts[0].queries, block)
        rows = len(queries)
        blind = None
        if partial == count:
            blind = _blind(allowed[torch.tensor(partly)][:, :, :rows].any(1), device)
        ids = torch.tensor(partly, dtype=torch.long, device=device).flatten()
        steps.append(DrawStep(queries, blind, torch.tensor(blocks, device=device), ids))
    return steps, _additive(allowed, dtype).to(device)


def _by_query(cut: Layout, offset: int) -> dict[int, list[tuple[int, int]]]:
    """By block of queries the blocks of keys that it sees, and their tiles, numbered from the offset."""
    found: dict[int, list[tuple[int, int]]] = {}
    for query, key, tile in zip(cut.query.tolist(), cut.key.tolist(), cut.tile.tolist(), strict=True):
        found.setdefault(query, []).append((key, tile + offset))
    return found
