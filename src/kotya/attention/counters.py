"""Random numbers that are a pure function of what they are for: no generator, no state, the same everywhere.

A counter-based hash: each number is mixed in by the finaliser of splitmix64 (Steele, Lea and Flood 2014).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

# splitmix64's constants as signed numbers: int64 multiplication wraps around as unsigned does
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def mixed(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Every bit of the result depends on every bit of x."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """To the right, with zeros coming in."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def hashed(words: Sequence[int], counters: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """A number from 0 to 2⁶² for each counter; other words give other numbers."""
    x = torch.zeros_like(counters)
    for word in words:
        x = mixed(x + _GOLDEN + word)
    return _shifted(mixed(x + _GOLDEN + counters), 2)


def draw_distinct(words: Sequence[int], below: Int[Tensor, " rows"], count: int) -> Int[Tensor, "rows count"]:
    """For each row `count` different numbers from 0 to below - 1, every set as likely; -1 where there are fewer.

    Floyd's way (Bentley and Floyd 1987): a row's numbers depend on its place and its bound, never on other rows.
    """
    rows = torch.arange(len(below))
    drawn = torch.full((len(below), count), -1)
    # a row that has no more than are drawn takes all: further turns would leave it as it is
    for turn in range(min(count, int(below.max()) if len(below) else 0)):
        highest = below - count + turn
        small = below <= count
        number = hashed([*words, turn], rows) % highest.clamp(min=0).add(1)
        taken = (drawn[:, :turn] == number[:, None]).any(1)
        number = torch.where(taken, highest, number)
        drawn[:, turn] = torch.where(small, torch.where(turn < below, turn, -1), number)
    return drawn
