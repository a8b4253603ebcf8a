"""What a plan multiplies: every query that is not read apart, not much more than it sees, in few steps."""

import pytest
import torch

from kotya.attention import planner
from kotya.attention.block_patterns import Ends, Neighbours
from kotya.attention.patterns import Causal, Global, Pattern, Window
from kotya.attention.plan import Bands, BandStep

LENGTH = 4096


def steps_of(pattern: Pattern, length: int = LENGTH) -> list[BandStep]:
    plan = planner.plan(pattern, length, length, False, 0, (0,), torch.float32, torch.device("cpu"))
    assert isinstance(plan, Bands)
    return [step for step in plan.steps if isinstance(step, BandStep)]


def queries_of(steps: list[BandStep]) -> list[int]:
    return [
        step.queries.start + block * step.queries.shift + place
        for step in steps
        for block in range(step.count)
        for place in range(len(step.queries))
    ]


@pytest.mark.parametrize(
    ("pattern", "most"),
    [
        (Window(16, 16), 2.5),
        (Window(64, 64), 1.3),
        (Window(128, 128), 1.3),
        (Window(255, 0) & Causal(), 1.3),
        (Window(256, 256), 1.2),
        (Window(256, 256) | Global(1), 1.2),
    ],
)
def test_not_much_more_is_read_than_is_seen(pattern: Pattern, most: float) -> None:
    steps, bound = steps_of(pattern), pattern.bind(LENGTH, LENGTH)
    read = sum(step.count * len(step.queries) * sum(map(len, step.runs)) for step in steps)
    assert read < most * int(bound.mask().sum())


def test_blocks_are_shorter_for_narrow_windows_alone() -> None:
    sizes = {
        pattern: len(steps_of(pattern)[0].queries)
        for pattern in (Window(16, 16), Window(64, 64), Window(128, 128), Window(256, 256), Global(1))
    }
    assert list(sizes.values()) == [32, 32, 32, 64, 64]


@pytest.mark.parametrize("pattern", [Window(64, 64), Window(100, 0) & Causal(), Window(9, 9) | Global(3)])
def test_every_query_is_in_one_step_and_blocks_that_see_alike_are_few_steps(pattern: Pattern) -> None:
    steps = steps_of(pattern)
    assert sorted(queries_of(steps)) == list(range(LENGTH))
    scores = sum(step.count * len(step.queries) * sum(map(len, step.runs)) for step in steps)
    # those at the ends see less, each in its own way
    assert len(steps) < 10 + 2 * scores / planner._SCORES


@pytest.mark.parametrize("pattern", [Global(128) | Window(9, 9), Neighbours(64) | Ends(64)])
@pytest.mark.parametrize("length", [LENGTH, LENGTH - 5])
def test_blocks_of_wide_queries_alone_are_left_out(pattern: Pattern, length: int) -> None:
    wide = pattern.bind(length, length).pattern.wide(pattern.bind(length, length).place)
    assert sorted(queries_of(steps_of(pattern, length))) == sorted({*range(length)} - {*wide})


def test_a_block_of_which_some_are_wide_is_read() -> None:
    assert sorted(queries_of(steps_of(Global((0, 3, 500)) | Window(9, 9)))) == list(range(LENGTH))
