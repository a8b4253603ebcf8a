"""What attention costs on a GPU: the kernel `flex` beside FlexAttention written by hand, patterns beside
FlashAttention, and an encoder that learns to fill in masked words of texts of mixed lengths, without padding.

    python benchmarks/gpu.py                                   bf16, batch 1, 8 heads × 64, 4k to 64k positions
    python benchmarks/gpu.py --parts encoder --peak 989        on a chip of so many dense TFLOP/s in bf16

Both sides in one run, the fastest of several rounds, calls of attention queued ten at a time; forward / forward and
backward in milliseconds.
"""

import argparse
import functools
import random
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from kotya.attention.choices import form_of
from kotya.attention.packed import Packing
from kotya.inference.attention_forms import choice_of
from kotya.models.bert import PRESETS, MaskedLM
from timing import fastest

HEADS, SIZE = 8, 64
SIDE = 256
VOCABULARY = 30_522
QUEUED = 10
"""Calls that are queued before they are waited for, as layers are."""
Seen = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Read = Callable[[], Tensor]


def window(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return (query - key).abs() <= SIDE


def one_global(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return window(row, head, query, key) | (key == 0) | (query == 0)


def causal_window(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return (key <= query) & (query - key <= SIDE)


WINDOW = f"{{kind: window, left: {SIDE}, right: {SIDE}}}"
BY_HAND: dict[str, tuple[str, bool, Seen]] = {
    "window": (WINDOW, False, window),
    "causal window": (WINDOW, True, causal_window),
    "window and [CLS]": (f"{{kind: any, of: [{WINDOW}, {{kind: global, positions: 1}}]}}", False, one_global),
}
"""Patterns as a recipe says them, whether they are causal, and as one writes them for FlexAttention."""
FORMS = ("window", "dilated", "longformer", "bigbird", "random", "linear", "{kind: linear, features: favor}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="*", choices=["flex", "flash", "encoder"])
    parser.add_argument("--lengths", default="4096,16384,65536")
    parser.add_argument("--rounds", type=int, default=10, help="of each call, at least")
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s of the chip in bf16: an H100's")
    parser.add_argument("--preset", default="bert-base", choices=list(PRESETS))
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    parts = chosen.parts or ["flex", "flash", "encoder"]
    for length in map(int, chosen.lengths.split(",")):
        if "flex" in parts:
            beside_flex(length, chosen.rounds)
        if "flash" in parts:
            beside_flash(length, chosen.rounds)
    if "encoder" in parts:
        encoder(chosen.preset, chosen.peak, chosen.rounds)


def beside_flex(length: int, rounds: int) -> None:
    """The same pattern by a recipe and by hand."""
    for name, (text, causal, seen) in BY_HAND.items():
        mask = create_block_mask(seen, None, None, length, length, device="cuda")
        by_hand: Any = torch.compile(flex_attention)
        theirs = timed(
            functools.partial(by_hand, block_mask=mask), leading=True, length=length, rounds=rounds
        )
        ours = timed(ours_of(text, length, causal), leading=False, length=length, rounds=rounds)
        line(f"{name}, by hand", length, theirs)
        line(name, length, ours, f"{theirs[0] / ours[0]:.2f}×/{theirs[1] / ours[1]:.2f}× by hand's speed")


def beside_flash(length: int, rounds: int) -> None:
    """Full attention by FlashAttention, and patterns and linear forms by what the run would choose."""
    full = {}
    for causal in (False, True):
        read = functools.partial(F.scaled_dot_product_attention, is_causal=causal)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            full[causal] = timed(read, leading=True, length=length, rounds=rounds)
        line("FlashAttention, causal" if causal else "FlashAttention", length, full[causal])
    for text in FORMS:
        for causal in (False, True):
            ours = timed(ours_of(text, length, causal), leading=False, length=length, rounds=rounds)
            ratios = (
                f"{full[causal][0] / ours[0]:.1f}×/{full[causal][1] / ours[1]:.1f}× FlashAttention's speed"
            )
            line(f"{text}, causal" if causal else text, length, ours, ratios)


def ours_of(text: str, length: int, causal: bool) -> Callable[..., Tensor]:
    form = form_of(choice_of(text), layer=0, heads=HEADS, head_size=SIZE, max_length=length, kernel="auto")
    assert form is not None
    packing = Packing.of([length], torch.device("cuda"))
    form = form.to("cuda") if isinstance(form, torch.nn.Module) else form
    return functools.partial(form.packed, packing=packing, causal=causal, dropout=0.0)


def timed(attend: Callable[..., Tensor], *, leading: bool, length: int, rounds: int) -> tuple[float, float]:
    """Seconds forward, and there and back. `leading`: heads stand before positions, behind a batch of one."""
    torch.manual_seed(0)
    shape = (1, HEADS, length, SIZE) if leading else (length, HEADS, SIZE)
    made = functools.partial(torch.randn, shape, device="cuda", dtype=torch.bfloat16)
    inputs, gradient = [made(requires_grad=True) for _ in range(3)], made()

    @torch.no_grad()
    def forward() -> None:
        for _ in range(QUEUED):
            attend(*inputs)
        torch.cuda.synchronize()

    def both() -> None:
        for _ in range(QUEUED):
            torch.autograd.grad(attend(*inputs), inputs, gradient)
        torch.cuda.synchronize()

    return fastest(forward, rounds) / QUEUED, fastest(both, rounds) / QUEUED


def line(name: str, length: int, seconds: tuple[float, float], note: str = "") -> None:
    print(f"{name:40s} {length:6d}  {1e3 * seconds[0]:8.2f} / {1e3 * seconds[1]:8.2f} ms  {note}", flush=True)


def encoder(preset: str, peak: float, rounds: int) -> None:
    """Updates by AdamW on packed texts of 64 to 512 pieces, 15 % of them masked: tokens a second and the chip's share.

    Counted are multiplications and additions, 6 a weight and a token that it is applied to, and those of attention.
    """
    config = PRESETS[preset].model_copy(update={"attention_dropout": 0.0})
    torch.manual_seed(0)
    model = MaskedLM(config.build(VOCABULARY, pooler=False), next_sentence=False).cuda().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    lengths = sorted(random.Random(0).choices(range(64, 513), k=128))
    packing, tokens = Packing.of(tuple(lengths), torch.device("cuda")), sum(lengths)
    ids = torch.randint(VOCABULARY, (tokens,), device="cuda")
    places = torch.randperm(tokens, device="cuda")[: round(0.15 * tokens)]

    def update() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            hidden = model(ids, packing, torch.zeros_like(ids))
            loss, _ = model.masked_loss(hidden[places], ids[places])
        (loss / len(places)).backward()
        optimiser.step()
        optimiser.zero_grad()
        torch.cuda.synchronize()

    seconds = fastest(update, rounds)
    in_layers = sum(weight.numel() for weight in model.encoder.layers.parameters() if weight.ndim == 2)
    head = (VOCABULARY + config.size) * config.size
    pairs = sum(length**2 for length in lengths)
    work = 6 * (in_layers * tokens + head * len(places)) + 12 * config.layers * config.size * pairs
    share = work / seconds / (1e12 * peak)
    print(
        f"{preset}, {tokens:,} tokens of {len(lengths)} texts: {tokens / seconds:,.0f} tokens/s, "
        f"{share:.0%} of {peak:g} TFLOP/s"
    )


if __name__ == "__main__":
    sys.exit(main())
