"""How sides of benchmarks are timed, and how one of training answers: one line of JSON on stdout."""

import json
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import corpus

SECONDS = 1.0
"""That a call of which the fastest counts is repeated for, at least."""


def measure(name: str, step: Callable[..., float], *, warmup: int, steps: int, **about: Any) -> None:
    """Run `step(source, inputs, outputs)` on the shared batches of ids; print its speed.

    Real target tokens a second, end of sentence counted, padding not; the optimiser's step is inside.
    """
    stream = corpus.batches()
    tokens, loss = 0, float("nan")
    for _ in range(warmup):
        source, inputs, outputs, _count = next(stream)
        loss = step(source, inputs, outputs)
    start = time.perf_counter()
    for _ in range(steps):
        source, inputs, outputs, count = next(stream)
        loss = step(source, inputs, outputs)
        tokens += count
    answer(name, tokens / (time.perf_counter() - start), loss=loss, steps=steps, **about)


def answer(name: str, speed: float, **about: Any) -> None:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(one).ru_maxrss for one in who) / 2**20
    allocator = "tuned" if "MALLOC_MMAP_MAX_" in os.environ else "default"
    line = {"side": name, "tokens_per_second": round(speed, 1), "peak_gib": round(peak, 2)}
    print(json.dumps(line | {"allocator": allocator} | about), flush=True)


def fastest(run: Callable[[], Any], rounds: int) -> float:
    """Of so many calls at least, and as many as there are in a second, after a first one."""
    run()
    taken: list[float] = []
    while len(taken) < rounds or sum(taken) < SECONDS:
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)
