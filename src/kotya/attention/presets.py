"""The lecture's two rows of masks, by name.

full n², sliding window, dilated sliding window, global + sliding window (Longformer);
random, window, global, and all three (BigBird)
"""

from functools import reduce

from kotya.attention.block_patterns import Random
from kotya.attention.patterns import Full, Global, Pattern, Window

PRESETS: dict[str, Pattern] = {
    "full": Full(),
    "window": Window(128, 128),
    "dilated": Window(128, 128, dilation=2),
    "global": Global(1),
    "random": Random(3),
    "longformer": Window(256, 256) | Global(1),
    "bigbird": reduce(Pattern.__or__, (Window(96, 96), Global(64), Random(3))),
}
