"""A small encoder and adapters for several tasks over it, trained in seconds."""

from pathlib import Path
from typing import Any

import pytest

from kotya import recipe as recipes
from kotya.training.progress import Silent
from kotya.training.run import train
from tiny_tasks import content, small_task

LORA = {"kind": "lora", "rank": 4}
HOULSBY = {"kind": "houlsby", "size": 8}
TEXTS = ["a lovely film", "dull dull story night", "great actor scene and an awful end"]
PAIRS = [("which film", "sweet scene music"), ("which night", "bleak")]


def on_base(plan: dict[str, Any], base: Path, adapt: dict[str, Any] | None) -> dict[str, Any]:
    """The plan on a base, which brings model and vocabulary."""
    rest = {name: value for name, value in plan.items() if name not in ("vocabulary", "model")}
    return rest | {"base": str(base)} | ({"adapt": adapt} if adapt else {})


def tuned(folder: Path, base: Path, kind: str, adapt: dict[str, Any] | None, **training: Any) -> Path:
    """A folder with an adapter of that kind, or the whole model tuned."""
    data = folder / kind
    data.mkdir(exist_ok=True)
    plan = on_base(
        content(data, kind, updates=40, evaluate_every=20, learning_rate=0.02, **training), base, adapt
    )
    name = f"{kind}-{adapt['kind'] if adapt else 'full'}"
    train(recipes.parse(plan, "test"), folder / name, reporter=Silent())
    return folder / name


def make_tuned(folder: Path) -> None:
    """A trained encoder in `bert`, with adapters beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        (folder / "data").mkdir()
        train(small_task(folder / "data", "classification"), folder / "bert", reporter=Silent())
        for kind, adapt in (("classification", LORA), ("relevance", HOULSBY), ("regression", LORA)):
            tuned(folder, folder / "bert", kind, adapt)
