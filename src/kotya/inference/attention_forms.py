"""What forms of attention see, and what they cost on this machine in time and memory: for pictures and benchmarks."""

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet, finalize

import torch
import yaml
from jaxtyping import Bool
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kotya.attention.block_patterns import Random
from kotya.attention.block_sparse import BlockSparse
from kotya.attention.choices import AttentionConfig, BlockSparseConfig, GlobalConfig, form_of, patterns_of
from kotya.attention.forms import Form
from kotya.attention.head_patterns import HeadPatterns
from kotya.attention.packed import Packing, attend_packed
from kotya.attention.patterns import Full, Global, Pattern, Window
from kotya.config import classes_of, explain
from kotya.errors import KotyaError
from kotya.folder import find_device
from kotya.pictures.lengths import Curve

_log = logging.getLogger("kotya")

SECONDS = 4.0
"""A form of which a pass would take longer is not measured at that length."""
COMPARED = ("full", "window", "longformer", "bigbird", "linear", "{kind: linear, features: favor}")
SMALL: dict[str, tuple[Pattern, ...]] = {
    "full n²": (Full(),),
    "sliding window": (Window(2, 2),),
    "dilated sliding window": (Window(2, 2, dilation=2),),
    "global + sliding window": (Window(2, 2) | Global((0, 5, 14)),),
    "random": (Random(2, size=1),),
    "window": (Window(1, 1),),
    "global": (Global(2),),
    "BigBird": (Window(1, 1) | Global(2) | Random(2, size=1),),
}
"""The masks of the lecture, at a size at which each cell is seen (Beltagy et al. 2020, figure 2; Zaheer et al. 2020,
figure 1)."""

Mask = Bool[Tensor, "queries keys"]


def choice_of(text: str) -> AttentionConfig:
    """Attention as a recipe says it. Raises KotyaError for what is none."""
    try:
        config: AttentionConfig = TypeAdapter(AttentionConfig).validate_python(yaml.safe_load(text))
    except ValidationError as error:
        _, reason = explain(error, classes_of(AttentionConfig))
        raise KotyaError(f"{text!r} is no attention: {reason}") from None
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or str(error)
        raise KotyaError(f"{text!r} is no attention: no YAML ({reason})") from None
    return config


def masks_of(
    texts: Sequence[str],
    queries: int,
    keys: int | None,
    *,
    causal: bool,
    heads: int | None = None,
    layer: int = 0,
) -> list[tuple[str, Mask]]:
    """Patterns by name and what they show; the lecture's without any given.

    One for each group of heads, and for each head where all have their own. `keys`: of another text. `heads`: in the
    layer, by default one for each group. Raises KotyaError for what is no pattern, and for a pattern that makes no
    sense there.
    """
    across = keys is not None
    named = SMALL if not texts else {text: _patterns(text, queries, keys, causal) for text in texts}
    masks = []
    for name, patterns in named.items():
        groups = HeadPatterns(patterns, layer).groups(heads or len(patterns), causal=causal)
        drawn = [
            (pattern, head)
            for pattern, numbers in groups
            for head in (numbers if pattern.drawn_by_head() else numbers[:1])
        ]
        for pattern, head in drawn:
            bound = pattern.bind(queries, keys or queries, cross=across, layer=layer, head=head)
            masks.append((name if len(drawn) == 1 else f"{name}, head {head}", bound.mask()))
    return masks


def _patterns(text: str, queries: int, keys: int | None, causal: bool) -> tuple[Pattern, ...]:
    config = choice_of(text)
    if isinstance(config, BlockSparseConfig):
        form, across = BlockSparse(config.size, config.random, 0, "auto"), keys is not None
        return (form.pattern(queries, causal=causal, cross=across),)
    length = max(queries, keys or 0)
    past = [position for position in _named(config) if position >= length]
    if past:
        raise KotyaError(f"{text!r}: position {past[0]} is to be global, and there are {length}, from 0 on")
    patterns = patterns_of(config)
    if not patterns:
        raise KotyaError(f"{text!r} is no pattern: there is no mask to draw")
    return patterns


def _named(config: AttentionConfig) -> Iterator[int]:
    """Positions that are global by number, however deep."""
    if isinstance(config, GlobalConfig) and not isinstance(config.positions, int):
        yield from config.positions
    for part in getattr(config, "of", ()):
        yield from _named(part)


def costs_of(
    texts: Sequence[str], lengths: Sequence[int], *, causal: bool, device: str
) -> tuple[list[Curve], list[Curve]]:
    """Milliseconds and MiB against the length, forward and backward, of each that was named."""
    seconds, memory = [], []
    for text in texts or COMPARED:
        costs = measure(choice_of(text), lengths, causal=causal, device=device, longest_seconds=SECONDS)
        if len(costs) < len(lengths):
            left = lengths[len(costs)]
            _log.warning("%s: not tried from %d positions on: more than %g s a pass", text, left, SECONDS)
        positions = [cost.positions for cost in costs]
        seconds.append(Curve(text, positions, [1000 * cost.both for cost in costs]))
        memory.append(Curve(text, positions, [cost.memory / 2**20 for cost in costs]))
    return seconds, memory


@dataclass(frozen=True)
class Cost:
    """Of one form and one length."""

    positions: int
    forward: float
    """Seconds, the median."""
    both: float
    """Of forward and backward."""
    memory: int
    """Bytes, at most, that forward and backward held beside query, key and value."""


def measure(
    config: AttentionConfig,
    lengths: Sequence[int],
    *,
    heads: int = 8,
    size: int = 64,
    causal: bool = False,
    repeats: int = 3,
    device: str = "auto",
    longest_seconds: float = math.inf,
) -> list[Cost]:
    """The cost of one layer's attention, without its projections, in float32, one text a batch."""
    form = form_of(config, layer=0, heads=heads, head_size=size, max_length=max(lengths), kernel="auto")
    place = find_device(device)
    form = form and form.to(place)
    costs: list[Cost] = []
    for length in lengths:
        if costs and costs[-1].both * (length / costs[-1].positions) ** _growth(costs) > longest_seconds:
            break
        costs.append(_measured(form, length, heads, size, causal, repeats, place))
    return costs


def _growth(costs: list[Cost]) -> float:
    """The power of the length that the time goes with, by the last two of them; 2 before there are two."""
    if len(costs) < 2:
        return 2.0
    before, last = costs[-2:]
    return math.log(last.both / before.both) / math.log(last.positions / before.positions)


def _measured(
    form: Form | None, length: int, heads: int, size: int, causal: bool, repeats: int, device: torch.device
) -> Cost:
    packing = Packing.of([length], device)
    query, key, value = (
        torch.randn(length, heads, size, device=device, requires_grad=True) for _ in range(3)
    )
    gradient = torch.randn(length, heads, size, device=device)

    def read() -> Tensor:
        if form is None:
            return attend_packed(query, key, value, packing, causal=causal)
        return form.packed(query, key, value, packing, causal=causal, dropout=0.0)

    def forward() -> None:
        with torch.no_grad():
            read()

    def both() -> None:
        torch.autograd.grad(read(), (query, key, value), gradient)

    both()
    return Cost(length, _median(forward, repeats), _median(both, repeats), peak_memory(both, device))


def _median(run: Callable[[], None], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def peak_memory(run: Callable[[], None], device: torch.device) -> int:
    """Bytes that `run` took at most; on a CPU those of tensors: what a kernel takes for itself inside is not seen."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    held = _Held()
    with held:
        run()
    return held.most


class _Held(TorchDispatchMode):
    """Counts the memory of every tensor that an operation makes, until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self.known = WeakSet[UntypedStorage]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = set(_storages((args, kwargs)))
        output = func(*args, **(kwargs or {}))
        for storage in _storages(output):
            if storage not in self.known and storage not in given:
                self.known.add(storage)
                self.now += storage.nbytes()
                finalize(storage, self._freed, storage.nbytes())
        self.most = max(self.most, self.now)
        return output

    def _freed(self, count: int) -> None:
        self.now -= count


def _storages(held: Any) -> Iterator[UntypedStorage]:
    """Of all tensors in there; a sparse one has two."""
    for x in tree_leaves(held):
        if isinstance(x, Tensor):
            for part in (x._indices(), x._values()) if x.is_sparse else (x,):
                yield part.untyped_storage()
