"""How fast a model folder is on this machine: loading, encoding, translating, one training step; medians of several."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from kotya import folder as folders
from kotya.errors import KotyaError
from kotya.folder import LoadedModel
from kotya.inference.loading import load_translator
from kotya.inference.translator import Translator
from kotya.models.seq2seq import Seq2Seq
from kotya.tasks.translation import collate
from kotya.text.longest import check_length

ENCODED = 64
"""Lines in a batch that is only encoded."""
STEP_TOKENS = 2048
"""Target tokens in the batch of a training step."""
SECONDS = 20.0
"""A measurement is repeated no longer than this."""


def benchmark(
    path: Path,
    lines: Sequence[str],
    *,
    beams: Sequence[int],
    batches: Sequence[int],
    repeats: int,
    device: str,
) -> Iterator[dict[str, Any]]:
    """Measure, and hand over each measurement as it is made: what, with what settings, how much a second.

    Raises KotyaError where there is no line to translate, or one of more than 4,096 pieces.
    """
    translator = load_translator(path, device=device)
    for number, line in enumerate(lines, start=1):
        check_length(translator.source.encode(line), f"line {number}")
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise KotyaError("there is no line to translate: the benchmark needs some")
    yield {"what": "load", "seconds": median(lambda: load_translator(path, device=device), repeats)}
    yield encoding(translator, lines, repeats)
    for beam in beams:
        for size in batches:
            yield translating(translator, lines, beam, size, repeats)
    yield training_step(folders.load(path, device), lines, translator, repeats)


def machine(device: str) -> dict[str, Any]:
    """What the figures belong to."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = names[0] if names else name
    found = {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    place = folders.find_device(device)
    return {**found, "device": torch.cuda.get_device_name(place) if place.type == "cuda" else str(place)}


def median(work: Callable[[], object], repeats: int) -> float:
    """Seconds that the work takes: the median of so many runs after one to warm up, fewer where they are long."""
    began = time.perf_counter()
    work()
    times: list[float] = []
    while len(times) < repeats and (not times or time.perf_counter() - began < SECONDS):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.inference_mode()
def encoding(translator: Translator, lines: Sequence[str], repeats: int) -> dict[str, Any]:
    """Source pieces a second through the encoder, in batches of lines of like length."""
    sources = sorted((translator.source.encode(line) for line in lines), key=len)
    pieces = sum(map(len, sources))

    def work() -> None:
        for start in range(0, len(sources), ENCODED):
            translator.ensemble.encode(sources[start : start + ENCODED])

    seconds = median(work, repeats)
    return {"what": "encode", "batch": ENCODED, "seconds": seconds, "tokens_per_second": pieces / seconds}


def translating(
    translator: Translator, lines: Sequence[str], beam: int, size: int, repeats: int
) -> dict[str, Any]:
    """Sentences and target pieces a second, so many lines given at once; with one, it is the wait for a line."""
    chosen = lines[: min(len(lines), max(8 * size, 16) if size < 64 else size)]
    choice = translator.choice(beam=beam)
    cores = torch.get_num_threads()
    pieces = 0

    def work() -> None:
        nonlocal pieces
        pieces = 0
        for start in range(0, len(chosen), size):
            for candidates in translator.candidates(chosen[start : start + size], choice, workers=cores):
                pieces += len(candidates[0].pieces) + 1

    torch.set_num_threads(1)  # as `kotya translate` does: a batch a core
    try:
        seconds = median(work, repeats)
    finally:
        torch.set_num_threads(cores)
    return {
        "what": "translate",
        "beam": beam,
        "batch": size,
        "seconds": seconds,
        "sentences_per_second": len(chosen) / seconds,
        "tokens_per_second": pieces / seconds,
    }


def training_step(
    loaded: LoadedModel, lines: Sequence[str], translator: Translator, repeats: int
) -> dict[str, Any]:
    """Target tokens a second through forward, backward and AdamW; the model's own translations are the targets."""
    source, target = loaded.vocabularies
    targets = translator.translate(lines[:ENCODED], beam=1)
    pairs = [(source.encode(line), target.encode(found)) for line, found in zip(lines, targets, strict=False)]
    tokens = sum(len(y) + 1 for _, y in pairs)
    pairs *= max(1, STEP_TOKENS // tokens)
    batch = collate(pairs, source.end, target).to(next(loaded.model.parameters()).device)
    model = loaded.model.train()
    assert isinstance(model, Seq2Seq)
    learned = [one for one in model.parameters() if one.requires_grad]  # of an adapter those that are its own
    optimizer = torch.optim.AdamW(learned, lr=1e-6, fused=True)

    def work() -> None:
        hidden = model(batch.source, batch.lengths, batch.inputs).flatten(0, 1)[batch.real]
        model.loss(hidden, batch.outputs, smoothing=0.1)[0].backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = median(work, repeats)
    return {"what": "training step", "seconds": seconds, "tokens_per_second": batch.tokens / seconds}
