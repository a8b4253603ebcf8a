"""Options that commands which use a model share, and how they become settings."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kotya.inference.translator import Choice, Translator

Ensemble = Annotated[
    list[Path] | None,
    typer.Option("--with", help="Another model folder that votes along; may be given again."),
]


def finite(value: float | None) -> float | None:
    """What an option's own bounds let through: a number that is none, or is without end."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


Normalization = Annotated[
    str | None, typer.Option(help="Score by length: average (n^α), wu (((5+n)/6)^α) or none.")
]
LengthPenalty = Annotated[float | None, typer.Option(min=0, callback=finite, help="α of the normalisation.")]
CoveragePenalty = Annotated[
    float | None, typer.Option(min=0, callback=finite, help="β of the coverage penalty (Wu et al. 2016).")
]


def _imported(base: Path | None) -> Path | None:
    if base is not None:
        from kotya.interop.base import imported, is_foreign
        from kotya.training.progress import Terminal

        if is_foreign(base):
            return imported(base, Terminal().say)
    return base


Base = Annotated[
    Path | None,
    typer.Option(
        help="Of an adapter: where its base lies, if not where it was trained on it; a folder of Hugging Face's, too.",
        callback=_imported,
    ),
]
Device = Annotated[str, typer.Option(help="auto: a GPU where there is one; cpu, cuda, cuda:1 …")]
Precision = Annotated[str, typer.Option(help="float32 or bf16.")]


def _allow_code(context: typer.Context, value: bool) -> bool:
    if value:
        from kotya.attention.custom import own_code

        context.with_resource(own_code(True))
    return value


AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        help="Load code of your own that the model names (a score by its dotted path).",
        callback=_allow_code,
    ),
]


LINE_ENDS = {ord(one): f"\\u{ord(one):04x}" for one in "\x85\u2028\u2029"}
"""What some readers end a line at beside the newline, as JSON escapes it; it stands in strings alone."""


def json_line(content: Any) -> str:
    """Letters as they are, and one line to every reader."""
    import json

    return json.dumps(content, ensure_ascii=False).translate(LINE_ENDS)


def prepare_workers(workers: int | None, device: str) -> int:
    """How many workers there are. On a CPU the cores are shared between them, for the encoder and the search alike."""
    import os

    import torch

    from kotya.folder import find_device

    if find_device(device).type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or cores
    torch.set_num_threads(max(1, cores // count))
    return count


def chosen(translator: "Translator", **options: Any) -> "Choice":
    """The model's own settings, changed by the options that were given. Raises KotyaError for a wrong one."""
    from pydantic import ValidationError

    from kotya.errors import KotyaError

    try:
        return translator.choice(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(part) for part in first["loc"]).replace("_", "-")
        given = first["input"]
        raise KotyaError(f"--{name} {given}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
