"""What attention costs against the length: kotya's patterns and linear forms beside PyTorch's own full attention.

    python benchmarks/attention.py                          float32, batch 1, 8 heads × 64, 1k to 64k positions
    python benchmarks/attention.py --lengths 4096,16384 --forms window-256 linear
    python benchmarks/attention.py --parts layers models    beside other libraries' (see attention_peers.py)

Both sides in one run and one process, other libraries' also in one of their own; forward, and forward with backward, in
milliseconds: the fastest of several, as for Python's own timeit, since what else the machine does can only make a call
slower. A form is measured in every role it has: a text reads itself, or what is before it, or another of its length.
Full attention is measured up to 16k; beyond, its time is four times that of half the length, and marked so. Memory is
that of all tensors held at once by forward and backward, beside query, key and value.
"""

import argparse
import functools
import sys
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
from timing import fastest  # noqa: E402

HEADS, SIZE = 8, 64
LONGEST_FULL = 16_384
SPARSE_MODELS = 4_096
"""The longest texts on which the sparse models of others are measured too."""
PARTS = {
    "forms": "forward / forward and backward, memory beside query, key and value",
    "flex": "FlexAttention, compiled, forward, a causal window of 256",
    "layers": "attention layers alone, beside those of transformers",
    "models": "models of 2 layers, beside those of transformers",
}
ITSELF, CAUSAL, ACROSS = ROLES = "itself", "causal", "across"
FORMS = {
    "window-256": ("{kind: window, left: 255, right: 0}", (CAUSAL,)),
    "window": ("window", ROLES),
    "dilated": ("dilated", ROLES),
    "global": ("global", ROLES),
    "random": ("random", ROLES),
    "longformer": ("longformer", ROLES),
    "bigbird": ("bigbird", ROLES),
    "linear": ("linear", ROLES),
    "relu": ("{kind: linear, features: relu}", ROLES),
    "favor-256": ("{kind: linear, features: favor}", ROLES),
    "linformer-256": ("{kind: linformer}", (ITSELF, ACROSS)),
}
"""And the roles in which they are measured."""


CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", default="1024,2048,4096,8192,16384,32768,65536")
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--roles", nargs="*", default=list(ROLES), choices=list(ROLES))
    parser.add_argument("--rounds", type=int, default=3, help="of each call, at least")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--layers", default="4096", help="lengths of layers beside others'")
    parser.add_argument("--models", default="4096,16384", help="lengths of models beside others'")
    options = parser.parse_args()
    print(machine.describe())
    lengths, layers, models = (
        [int(length) for length in text.split(",")]
        for text in (options.lengths, options.layers, options.models)
    )
    for part in options.parts:
        print(f"\n{part}: {PARTS[part]}")
        if part == "forms":
            forms(options.forms, options.roles, lengths, options.rounds)
        elif part == "flex":
            beside_flex([length for length in lengths if length <= LONGEST_FULL], options.rounds)
        elif part == "layers":
            for length in layers:
                beside(part, length, options.rounds)
        else:
            for length in models:
                few = ["transformers: BERT, full"] if length > SPARSE_MODELS else None
                beside(part, length, options.rounds, few)


def peers() -> Any:
    """With `transformers` and PyTorch's compiler, which take their time to import."""
    import attention_peers

    return attention_peers


def forms(names: list[str], roles: list[str], lengths: list[int], rounds: int) -> None:
    """Ours beside PyTorch's full attention."""
    full = {causal: measured_full(causal, lengths, rounds) for causal in (False, True)}
    for causal, name in ((False, "full"), (True, "full, causal")):
        for length, (forward, both, extrapolated) in full[causal].items():
            line(name, length, forward, both, None, "extrapolated" if extrapolated else "")
    for name in names:
        text, possible = FORMS[name]
        for role in possible:
            if role in roles:
                one_form(f"{name}, {role}", text, role, lengths, rounds, full)


def one_form(
    name: str, text: str, role: str, lengths: list[int], rounds: int, full: dict[bool, dict[int, Any]]
) -> None:
    before: tuple[float, float] | None = None
    for length in lengths:
        forward, both, memory = measured(text, role, length, rounds)
        ratios = [
            f"{full[c][length][0] / forward:.1f}×/{full[c][length][1] / both:.1f}×" for c in (False, True)
        ]
        note = f"of full {ratios[0]}, of causal {ratios[1]}"
        if before is not None:
            note += f"  ×{forward / before[0]:.2f}/×{both / before[1]:.2f} by doubling"
        line(name, length, forward, both, memory, note)
        before = forward, both


def beside_flex(lengths: list[int], rounds: int) -> None:
    """A causal window of 256 in one run: ours and PyTorch's."""
    for length in lengths:
        read, seconds = peers().flex(length, 256)
        with torch.no_grad():
            theirs = fastest(read, rounds)
        ours, _, _ = measured(FORMS["window-256"][0], CAUSAL, length, rounds)
        print(
            f"{length:6d}  flex {1000 * theirs:9.1f} ms after {seconds:.1f} s of compiling and masking, "
            f"kotya {1000 * ours:9.1f} ms  {theirs / ours:.2f}×",
            flush=True,
        )


def beside(kind: str, length: int, rounds: int, names: list[str] | None = None) -> None:
    """Layers or models of both sides, all in one process, with the memory that forward and backward held; and the
    others' once more in a process of their own, with the allocator as their users have it.

    `names`: of the others' that are measured; all by default.
    """
    found = {}
    for name, call in peers().KINDS[kind](length, names).items():
        back = functools.partial(peers().backward, call)
        found[name] = (*peers().times(call, rounds), peak_memory(back, CPU) / 2**20)
    others = {name: took for name, took in found.items() if name.startswith("transformers")}
    for name, (forward, both) in peers().in_own_process(kind, length, rounds, names).items():
        alone = name.replace("transformers", "as it comes")
        others[alone] = found[alone] = (forward, both, None)
    for name, (forward, both, memory) in found.items():
        ratios = [f"{o[1] / both:.1f}× {other.removeprefix('transformers: ')}" for other, o in others.items()]
        line(name, length, forward, both, memory, "" if name in others else ", ".join(ratios))


def line(name: str, length: int, forward: float, both: float, memory: float | None, note: str) -> None:
    held = "" if memory is None else f"{memory:7.0f} MiB"
    print(
        f"{name:26s} {length:6d}  {1000 * forward:9.1f} / {1000 * both:9.1f} ms  {held:11s}  {note}",
        flush=True,
    )


def tensors(length: int) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(0)
    return [torch.randn(length, HEADS, SIZE, requires_grad=True) for _ in range(3)], torch.randn(
        length, HEADS, SIZE
    )


def timed(
    read: Callable[[], Tensor], inputs: list[Tensor], gradient: Tensor, rounds: int
) -> tuple[float, float]:
    def forward() -> None:
        with torch.no_grad():
            read()

    return fastest(forward, rounds), fastest(lambda: torch.autograd.grad(read(), inputs, gradient), rounds)


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
        found[length] = (*timed(read, by_head, above, rounds), False)
    return found


def measured(text: str, role: str, length: int, rounds: int) -> tuple[float, float, float]:
    """Seconds forward, seconds there and back, MiB."""
    form = form_of(choice_of(text), layer=0, heads=HEADS, head_size=SIZE, max_length=length, kernel="auto")
    assert form is not None
    (query, key, value), gradient = tensors(length)
    packing = Packing.of([length])

    def read() -> Tensor:
        if role == ACROSS:
            return form.rows(query[None], key[None], value[None], None, cross=True)[0]
        return form.packed(query, key, value, packing, causal=role == CAUSAL, dropout=0.0)

    forward, both = timed(read, [query, key, value], gradient, rounds)
    memory = peak_memory(lambda: torch.autograd.grad(read(), (query, key, value), gradient), CPU)
    return forward, both, memory / 2**20


if __name__ == "__main__":
    sys.exit(main())
