"""What is lost by training a few per cent: four sets by five ways, three seeds; and translators in two domains.

    python benchmarks/adapting_results.py                        every cell that is not there yet
    python benchmarks/adapting_results.py --sets mrpc --ways lora head --seeds 1
    python benchmarks/adapting_results.py --translators          a LoRA and full tuning on hotel descriptions
    python benchmarks/adapting_results.py --trial 3              three updates a cell, in a folder of its own

MiniLM is tuned by the recipes in recipes/bert/, with their batches; learning rates and epochs are multiples of the
recipe's, said in WAYS. Cells of full tuning are those of finetuning.py. A cell is a run. Finished ones
are kept as JSON in runs/adapting/, so that the same command goes on where it was stopped; the tables there are written
anew after each.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import safe_open

import finetuning
import machine
from cells import WRITING, run_all
from kotya import recipe as recipes
from kotya.folder import WEIGHTS, find_device

ROOT = finetuning.ROOT
SETS = {one.name: one for one in finetuning.SETS if one.name in ("mrpc", "wikiqa", "conll2003", "sst2")}
HEADS = ("head.", "transform.")


@dataclass(frozen=True)
class Way:
    changes: tuple[str, ...] = ()
    rate: float = 1.0
    """Times the learning rate of the recipe."""
    longer: int = 1
    """Times its epochs."""


WAYS = {
    "full": Way(),
    "houlsby 64": Way(("adapt.kind=houlsby", "adapt.size=64"), 10),
    "pfeiffer 64": Way(("adapt.kind=pfeiffer", "adapt.size=64"), 10),
    "lora 8": Way(("adapt.kind=lora", "adapt.rank=8", "adapt.alpha=16"), 10),
    "lora 4 everywhere": Way(
        ("adapt.kind=lora", "adapt.rank=4", "adapt.alpha=8", "adapt.targets=[attention, feed_forward]"), 10, 2
    ),
    "head": Way(("adapt.kind=head",), 20),
    "full, twice the epochs": Way(longer=2),
    "houlsby 64, twice the epochs": Way(("adapt.kind=houlsby", "adapt.size=64"), 10, 2),
}
TRANSLATORS = ("transformer", "bahdanau")
TRANSLATOR_WAYS = ("base", "lora", "full")
TRANSLATOR_RECIPES = ROOT / "recipes" / "rus-eng"
DOMAINS = ("rus-eng", "hotels-ru-en")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--translators", nargs="*", choices=TRANSLATORS, help="those or some, not the sets")
    parser.add_argument("--trial", type=int, help="so many updates a cell, to see that all of it runs")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time: more for a GPU, or many cores")
    chosen = parser.parse_args()
    folder = ROOT / "runs" / ("adapting-trial" if chosen.trial else "adapting")
    folder.mkdir(parents=True, exist_ok=True)
    if chosen.translators is not None:
        models = chosen.translators or TRANSLATORS
        for model in models:
            translator_base(folder, model, chosen.trial)
        work = [
            partial(translator, folder, model, way, seed, chosen.trial)
            for seed in chosen.seeds
            for model in models
            for way in TRANSLATOR_WAYS
        ]
    else:
        work = [
            partial(tuning, folder, name, way, seed, chosen.trial)
            for seed in chosen.seeds
            for name in chosen.sets
            for way in chosen.ways
        ]
    return run_all(work, chosen.jobs)


# ── MiniLM ────────────────────────────────────────────────────────────────────────────────────────────────


def tuning(folder: Path, name: str, way: str, seed: int, trial: int | None) -> None:
    """One run, unless it is there, and the table."""
    run = folder / f"{name}.{way.replace(' ', '-')}.{seed}"
    path = folder / f"{run.name}.json"
    if path.exists():
        return
    one, whole = SETS[name], folder.with_name(folder.name.replace("adapting", "finetuning"))
    whole.mkdir(parents=True, exist_ok=True)
    base = finetuning.base_folder(whole, one.base, trial)
    if way == "full":
        found, run = finetuning.cell(whole, one, "kotya", seed, trial), whole / f"{name}.kotya.{seed}"
    else:
        training = recipes.read(one.file).training
        changes = [*WAYS[way].changes, f"base={base}"]
        changes.append(f"training.learning_rate={WAYS[way].rate * training.learning_rate}")
        changes.append(f"training.epochs={WAYS[way].longer * training.epochs}")
        found = finetuning.trained(run, one.file, [*changes, *one.settings(seed, trial)])
    keep(path, {**found, "set": name, "way": way, "seed": seed, **weighed(run, base)})
    with WRITING:
        (folder / "table.md").write_text(table(folder), encoding="utf-8")


def weighed(run: Path, base: Path) -> dict[str, float]:
    """Trained parameters, with the head and without; those of the whole model; bytes on the disk."""
    sizes, under = counts(run / WEIGHTS), counts(base / WEIGHTS)
    heads = sum(count for name, count in sizes.items() if name.startswith(HEADS))
    adapter = json.loads((run / "config.json").read_text(encoding="utf-8")).get("adapter") is not None
    total = heads + sum(under.values()) if adapter else sum(sizes.values())
    files = [run / WEIGHTS, run / "config.json", *run.glob("*tokenizer.json")]
    return {
        "trained": sum(sizes.values()),
        "trained_head": heads,
        "parameters": total,
        "bytes": sum(file.stat().st_size for file in files),
    }


def counts(path: Path) -> dict[str, int]:
    with safe_open(path, framework="pt") as file:
        return {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def keep(path: Path, content: dict[str, Any]) -> None:
    with WRITING:
        path.write_text(
            json.dumps({"machine": machine.describe(find_device("auto").type), **content}), encoding="utf-8"
        )


def table(folder: Path) -> str:
    """A row a set and way: mean over seeds and its standard error, and what it took."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.*.[0-9].json"))]
    rows = [
        "| set | metric | way | mean | standard error | by seed | against full | trained, % | without the head, % "
        "| MB | minutes | GiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in SETS.items():
        full: float | None = None
        for way in WAYS:
            some = [cell for cell in cells if cell.get("set") == name and cell["way"] == way]
            if not some:
                continue
            values = [cell["metrics"][one.metric] for cell in some]
            mean, first = statistics.mean(values), some[0]
            full = mean if way == "full" else full
            share = 100 * first["trained"] / first["parameters"]
            inside = 100 * (first["trained"] - first["trained_head"]) / first["parameters"]
            error = f"{statistics.stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
            by_seed = ", ".join(
                f"{cell['seed']}: {value:.2f}" for cell, value in zip(some, values, strict=True)
            )
            against = "" if full is None or way == "full" else f"{mean - full:+.2f}"
            minutes = statistics.mean(cell["seconds"] for cell in some) / 60
            memory = max(cell["peak_gib"] for cell in some)
            rows.append(
                f"| {name} | {one.metric} | {way} | {mean:.2f} | {error} | {by_seed} | {against} | {share:.2f} | "
                f"{inside:.2f} | {first['bytes'] / 1e6:.2f} | {minutes:.1f} | {memory:.2f} |"
            )
    return "\n".join(rows) + "\n"


# ── Translators ───────────────────────────────────────────────────────────────────────────────────────────


def translator_base(folder: Path, model: str, trial: int | None) -> Path:
    """What is tuned: of the ladder, or in a trial one of a few updates."""
    if trial is None:
        base = ROOT / "runs" / "rus-eng" / model
        if not (base / WEIGHTS).exists():
            sys.exit(f"no {base}: kotya train recipes/rus-eng/{model}.yaml")
        return base
    base = folder / f"base-{model}"
    if not (base / WEIGHTS).exists():
        finetuning.trained(base, TRANSLATOR_RECIPES / f"{model}.yaml", in_short(folder, "rus-eng", trial))
    return base


def translator(folder: Path, model: str, way: str, seed: int, trial: int | None) -> None:
    """The base as it is, with a LoRA, or tuned whole: BLEU in both domains."""
    path = folder / f"{model}.{way}.{seed}.json"
    if path.exists():
        return
    base = run = translator_base(folder, model, trial)
    found: dict[str, Any] = {}
    if way != "base":
        run = folder / path.stem
        changes = [f"base={base}", f"training.seed={seed}", *in_short(folder, "hotels-ru-en", trial)]
        found = finetuning.trained(run, TRANSLATOR_RECIPES / f"adapt-{model}-{way}.yaml", changes)
        found |= weighed(run, base)
    bleu = {domain: measured(run, texts(folder, domain, "test", trial)) for domain in DOMAINS}
    keep(path, {"model": model, "way": way, "seed": seed, **found, "bleu": bleu})
    with WRITING:
        (folder / "translators.md").write_text(translators(folder), encoding="utf-8")


def in_short(folder: Path, domain: str, trial: int | None) -> list[str]:
    """What makes a trial of a recipe."""
    if trial is None:
        return []
    source, target = texts(folder, domain, "dev", trial)
    return [f"training.updates={trial}", f"data.dev.source={source}", f"data.dev.target={target}"]


def texts(folder: Path, domain: str, part: str, trial: int | None) -> list[Path]:
    """The files of a set, source and target; of a trial, their first lines."""
    root = Path(os.environ.get("KOTYA_DATA", "data")) / domain
    files = [root / f"{part}.ru", root / f"{part}.en"]
    if trial is None:
        return files
    short = [folder / f"{domain}.{file.name}" for file in files]
    with WRITING:
        for file, copy in zip(files, short, strict=True):
            if not copy.exists():
                lines = file.read_text(encoding="utf-8").splitlines()[:8]
                copy.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return [copy.absolute() for copy in short]


def measured(run: Path, files: list[Path]) -> float:
    """BLEU on two files."""
    command = [sys.executable, "-m", "kotya", "evaluate", run, *files, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"kotya evaluate {run} failed:\n{done.stderr[-2_000:]}")
    scores = json.loads(done.stdout.splitlines()[-1])["scores"]
    return float(next(one["value"] for one in scores if one["name"] == "BLEU"))


def translators(folder: Path) -> str:
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.*.[0-9].json"))]
    rows = [
        "| model | way | "
        + " | ".join(f"BLEU, {domain}" for domain in DOMAINS)
        + " | trained, % | MB | minutes |",
        "|---|---|" + "---|" * (len(DOMAINS) + 3),
    ]
    for model in TRANSLATORS:
        for way in TRANSLATOR_WAYS:
            some = [cell for cell in cells if cell.get("model") == model and cell["way"] == way]
            if not some:
                continue
            bleu = " | ".join(
                f"{statistics.mean(cell['bleu'][domain] for cell in some):.2f}" for domain in DOMAINS
            )
            first = some[0]
            took = ""
            if way != "base":
                minutes = statistics.mean(cell["seconds"] for cell in some) / 60
                share = 100 * first["trained"] / first["parameters"]
                took = f"{share:.2f} | {first['bytes'] / 1e6:.2f} | {minutes:.1f}"
            rows.append(f"| {model} | {way} | {bleu} | {took or ' | | '} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
