"""What search is asked and what it answers: a line to read, and hypotheses, best first."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SearchLine:
    """One line to search for: ids of the source without its end, and what the output must begin with."""

    source: list[int]
    prefix: list[int] = field(default_factory=list)
    number: int = 0
    """Which line of the input it is: sampling is seeded with it, so that neighbours do not matter."""
    cap: int | None = None
    """The most pieces of its output, prefix and end included; by default what the settings say for its source."""


@dataclass(frozen=True)
class Hypothesis:
    """An output, whole."""

    tokens: list[int]
    """Ids without begin and end; a forced prefix is part of them."""
    log_probability: float
    """Σ log p over all tokens and the end, in nats; NaN from greedy search that was not asked for scores."""
    score: float
    """The sum over its length penalty, plus the coverage penalty; what hypotheses are ranked by."""
    finished: bool = True
    """Whether it ended by itself; at the length cap an end is forced on it."""


@dataclass(frozen=True)
class Roles:
    """What search must know of a vocabulary."""

    begin: int
    end: int
    banned: tuple[int, ...] = ()
    """Ids that no output holds: padding, begin."""
