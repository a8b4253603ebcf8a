"""Which pairs a translator should not learn from: empty, too long, of unlikely length ratio, repeated, not UTF-8.

Every dropped pair is counted under one reason, the first that holds.
"""

from typing import Literal

from pydantic import Field, model_validator

from kotya.config import Config, wrong

EMPTY = "empty"
INVALID = "not UTF-8"
SHORT = "too short"
LONG = "too long"
RATIO = "length ratio"
DUPLICATE = "duplicate"
REASONS = (EMPTY, INVALID, SHORT, LONG, RATIO, DUPLICATE)


class CleaningConfig(Config):
    """Which pairs of the training data are dropped. Lengths are in pieces of the vocabulary, end not counted."""

    min_length: int = Field(default=1, ge=1)
    """The shortest side that is kept, in pieces; a pair with an empty side is always dropped."""
    max_length: int = Field(default=256, ge=1)
    """The longest side that is kept, in pieces."""
    max_ratio: float | None = Field(default=None, ge=1)
    """How many times as long as the other a side may be; null for any."""
    duplicates: Literal["keep", "drop"] = "keep"
    """drop: of equal pairs only the first is kept (pairs are compared by a 64-bit hash)."""
    invalid: Literal["error", "drop"] = "error"
    """What a line that is not UTF-8 does: stop with its file and line, or be dropped and counted."""

    @model_validator(mode="after")
    def _some_length_is_kept(self) -> "CleaningConfig":
        if self.min_length > self.max_length:
            message = f"{self.min_length} is more than max_length, {self.max_length}: no pair would be kept"
            raise wrong(("min_length",), message, self.min_length)
        return self

    def reason(self, source_length: int, target_length: int) -> str | None:
        """Why a pair of these lengths is dropped; None where it is kept."""
        shorter, longer = sorted((source_length, target_length))
        if shorter == 0:
            return EMPTY
        if shorter < self.min_length:
            return SHORT
        if longer > self.max_length:
            return LONG
        if self.max_ratio is not None and longer > self.max_ratio * shorter:
            return RATIO
        return None


def describe(report: dict[str, int]) -> str:
    """A report of counts as one line: how many pairs were kept and why others were not."""
    dropped = [f"{count:,} {reason}" for reason, count in report.items() if reason != "kept" and count]
    return f"{report['kept']:,} pairs" + (f"; dropped: {', '.join(dropped)}" if dropped else "")
