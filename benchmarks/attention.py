"""What attention costs against the length: kotya's patterns and linear forms beside PyTorch's own full attention.

    python benchmarks/attention.py                          float32, batch 1, 8 heads × 64, 1k to 64k positions
    python benchmarks/attention.py --lengths 4096,16384 --forms window-256 linear

Both sides in one run and one process, the median of several; forward, and forward with backward, in milliseconds.
Full attention is measured up to 16k; beyond, its time is four times that of half the length, and marked so. Memory is
that of all tensors held at once by forward and backward, beside query, key and value.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from kotya.cli.allocator import tune_allocator

tune_allocator()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

import machine  # noqa: E402
from kotya.attention.choices import form_of  # noqa: E402
from kotya.attention.packed import Packing  # noqa: E402
from kotya.inference.attention_forms import choice_of, peak_memory  # noqa: E402

HEADS, SIZE = 8, 64
LONGEST_FULL = 16_384
FORMS = {
    "window-256": ("{kind: window, left: 255, right: 0}", True),
    "window": ("window", False),
    "dilated": ("dilated", False),
    "global": ("global", False),
    "random": ("random", False),
    "longformer": ("longformer", False),
    "bigbird": ("bigbird", False),
    "bigbird-causal": ("bigbird", True),
    "linear": ("linear", False),
    "linear-causal": ("linear", True),
    "relu": ("{kind: linear, features: relu}", False),
    "favor-256": ("{kind: linear, features: favor}", False),
    "favor-256-causal": ("{kind: linear, features: favor}", True),
    "linformer-256": ("{kind: linformer}", False),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", default="1024,2048,4096,8192,16384,32768,65536")
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine.describe())
    lengths = [int(length) for length in options.lengths.split(",")]
    full = {causal: measured_full(causal, lengths, options.rounds) for causal in (False, True)}
    for causal, name in ((False, "full"), (True, "full, causal")):
        for length, (forward, both, extrapolated) in full[causal].items():
            line(name, length, forward, both, None, "extrapolated" if extrapolated else "")
    for name in options.forms:
        before: float | None = None
        for length in lengths:
            forward, both, memory = measured(*FORMS[name], length, options.rounds)
            ratios = [
                f"{full[c][length][0] / forward:.1f}×/{full[c][length][1] / both:.1f}×" for c in (False, True)
            ]
            doubled = "" if before is None else f"  ×{both / before:.2f} by doubling"
            note = f"of full {ratios[0]}, of causal {ratios[1]}{doubled}"
            line(name, length, forward, both, memory, note)
            before = both


def line(name: str, length: int, forward: float, both: float, memory: float | None, note: str) -> None:
    held = "" if memory is None else f"{memory:7.0f} MiB"
    print(
        f"{name:18s} {length:6d}  {1000 * forward:9.1f} / {1000 * both:9.1f} ms  {held:11s}  {note}",
        flush=True,
    )


def tensors(length: int) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(0)
    return [torch.randn(length, HEADS, SIZE, requires_grad=True) for _ in range(3)], torch.randn(
        length, HEADS, SIZE
    )


def median(run: Callable[[], Any], rounds: int) -> float:
    run()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def timed(
    read: Callable[[], Tensor], inputs: list[Tensor], gradient: Tensor, rounds: int
) -> tuple[float, float]:
    def forward() -> None:
        with torch.no_grad():
            read()

    return median(forward, rounds), median(lambda: torch.autograd.grad(read(), inputs, gradient), rounds)


def measured_full(causal: bool, lengths: list[int], rounds: int) -> dict[int, tuple[float, float, bool]]:
    found: dict[int, tuple[float, float, bool]] = {}
    for length in lengths:
        if length > LONGEST_FULL:
            nearest = max(found)
            times = (length / nearest) ** 2
            found[length] = (found[nearest][0] * times, found[nearest][1] * times, True)
            continue
        inputs, gradient = tensors(length)
        by_head = [x.detach().transpose(0, 1)[None].contiguous().requires_grad_() for x in inputs]

        def read(by_head: list[Tensor] = by_head) -> Tensor:
            return F.scaled_dot_product_attention(*by_head, is_causal=causal)

        above = gradient.transpose(0, 1)[None].contiguous()
        found[length] = (
            *timed(read, by_head, above, min(rounds, 1 if length >= LONGEST_FULL else rounds)),
            False,
        )
    return found


def measured(text: str, causal: bool, length: int, rounds: int) -> tuple[float, float, float]:
    """Seconds forward, seconds there and back, MiB."""
    form = form_of(choice_of(text), layer=0, heads=HEADS, head_size=SIZE, max_length=length, kernel="auto")
    assert form is not None
    (query, key, value), gradient = tensors(length)
    packing = Packing.of([length])

    def read() -> Tensor:
        return form.packed(query, key, value, packing, causal=causal, dropout=0.0)

    forward, both = timed(read, [query, key, value], gradient, rounds)
    memory = peak_memory(lambda: torch.autograd.grad(read(), (query, key, value), gradient))
    return forward, both, memory / 2**20


if __name__ == "__main__":
    sys.exit(main())
