"""The longest line that a model reads or is scored on; all that is asked of a model passes here, training data do not.

Attention over more takes memory by the square, and it is no sentence.
"""

from collections.abc import Sized

from kotya.errors import KotyaError

LONGEST = 4096
"""Pieces."""


def check_length(pieces: Sized, place: str) -> None:
    """Raises KotyaError where the line at `place` has more than 4,096 pieces."""
    if len(pieces) > LONGEST:
        raise KotyaError(f"{place} has {len(pieces):,} pieces; a line may have {LONGEST:,}: split it")
