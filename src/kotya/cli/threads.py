"""How long the threads of a matrix product wait for the next one before they give the core away.

GNU's OpenMP, with which torch divides its work, lets them spin for milliseconds. Alone on a machine that costs nothing;
two trainings at once on the same cores then wait for each other's spinning and fall to a tenth of their speed.
"""

import os

SPINS = 30_000
"""As fast as the library's own choice alone, and 2.5 times as fast where two run at once (docs/results.md)."""


def spin_briefly() -> None:
    """Call before torch is imported, which reads it; what the person set is left as it is."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
