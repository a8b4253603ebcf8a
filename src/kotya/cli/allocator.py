"""glibc's allocator told to keep its pages: the command line's process only, never `import kotya`.

By default it hands large blocks back to the kernel and faults them in again at every step, a third of the time
of a training loop on CPU. A process that embeds kotya keeps its own settings.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def tune_allocator() -> None:
    """Call before the first tensor. Does nothing where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl and others: there is no such setting
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 256 * 2**20)
    mallopt(_M_ARENA_MAX, 1)  # workers share what they kept
