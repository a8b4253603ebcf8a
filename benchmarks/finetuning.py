"""Fine-tuning side by side: kotya and a plain `transformers` Trainer, the same models, epochs and batches, three seeds.

    python benchmarks/finetuning.py                        every cell that is not there yet
    python benchmarks/finetuning.py --sets mrpc sick --seeds 1
    python benchmarks/finetuning.py --trial 3              three updates a cell, in a folder of its own

A cell is a run of one side on one set with one seed. Finished ones are kept as JSON in runs/finetuning/, so that the
same command goes on where it was stopped; the table there is written anew after each. Both sides read the recipe in
recipes/bert/, evaluate after every epoch and keep the best, measured by the same code (kotya.metrics). All of it
is days of two cores; all but one cell took twenty minutes of an H100 under NVIDIA's MPS, some thirty runs at a time.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bert_texts
import machine
import peers
from cells import WRITING, making, run_all
from kotya import recipe as recipes
from kotya.folder import find_device
from kotya.training.precision import resolve

HERE = Path(__file__).parent
ROOT = HERE.parent
RECIPES = ROOT / "recipes" / "bert"


@dataclass(frozen=True)
class Set:
    name: str
    metric: str
    base: str = "minilm"
    """minilm, or a recipe of recipes/bert that is run first."""
    recipe: str = ""
    """Of recipes/bert; by default that of its own name."""
    changes: tuple[str, ...] = ()
    sides: tuple[str, ...] = ("kotya", "transformers")

    @property
    def file(self) -> Path:
        return RECIPES / f"{self.recipe or self.name}.yaml"

    def settings(self, seed: int, trial: int | None) -> list[str]:
        """What the recipe is changed by."""
        return [*self.changes, f"training.seed={seed}", *short(trial)]


NAMES = ("training.learning_rate=3e-4",)
FEW = ("data.train=sst2/train.tsv", "training.learning_rate=2e-4")
SETS = (
    Set("mrpc", "accuracy"),
    Set("sick", "Pearson"),
    Set("wnut17", "F1"),
    Set("trecqa", "MAP"),
    Set("wikiqa", "MAP"),
    Set("conll2003", "F1"),
    Set("sst2", "accuracy"),
    Set("nerel", "F1", base="russian"),
    # whether pretraining is worth it, from WikiText-2 and from nothing: of names, and of SST-2's 6,920 sentences
    Set("conll2003, pretrained", "F1", "wikitext2", "conll2003", NAMES, ("kotya",)),
    Set("conll2003, from nothing", "F1", "", "conll2003", NAMES, ("kotya",)),
    Set("sst2, pretrained", "accuracy", "wikitext2", "sst2", FEW, ("kotya",)),
    Set("sst2, from nothing", "accuracy", "", "sst2", FEW, ("kotya",)),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="*", choices=[one.name for one in SETS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--sides", nargs="*", choices=["kotya", "transformers"])
    parser.add_argument("--trial", type=int, help="so many updates a cell, to see that all of it runs")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time: more for a GPU, or many cores")
    chosen = parser.parse_args()
    folder = ROOT / "runs" / ("finetuning-trial" if chosen.trial else "finetuning")
    folder.mkdir(parents=True, exist_ok=True)
    return run_all(
        [
            partial(cell, folder, one, side, seed, chosen.trial)
            for seed in chosen.seeds
            for one in SETS
            if not chosen.sets or one.name in chosen.sets
            for side in one.sides
            if not chosen.sides or side in chosen.sides
        ],
        chosen.jobs,
    )


def cell(folder: Path, one: Set, side: str, seed: int, trial: int | None) -> dict[str, Any]:
    """What it found; it runs unless it did before. The table is written anew."""
    name = f"{one.name.replace(', ', '-').replace(' ', '-')}.{side}.{seed}"
    path = folder / f"{name}.json"
    if not path.exists():
        base = base_folder(folder, one.base, trial) if one.base else None
        settings = one.settings(seed, trial)
        if side == "kotya":
            found = kotya(folder / name, one.file, base, folder, settings, trial)
        else:
            assert base is not None
            found = transformers(folder / name, one.file, base, settings)
        content = {
            "set": one.name,
            "side": side,
            "seed": seed,
            **found,
            "machine": machine.describe(find_device("auto").type),
        }
        with WRITING:
            path.write_text(json.dumps(content), encoding="utf-8")
            (folder / "table.md").write_text(table(folder), encoding="utf-8")
    finished: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return finished


def short(trial: int | None) -> list[str]:
    return [f"training.updates={trial}", "training.epochs=null"] if trial else []


def base_folder(folder: Path, name: str, trial: int | None) -> Path:
    """MiniLM as an import, or a model that is pretrained here, once."""
    path = folder / f"base-{name}"
    with making(path):
        if name == "minilm":
            if not path.exists():
                command("import", bert_texts.model_folder(), path)
        elif not (folder / f"base-{name}.json").exists():
            found = trained(path, RECIPES / f"{name}.yaml", short(trial))
            (folder / f"base-{name}.json").write_text(json.dumps(found), encoding="utf-8")
    return path


def kotya(
    run: Path, file: Path, base: Path | None, folder: Path, changes: list[str], trial: int | None
) -> dict[str, Any]:
    """A run of kotya's. Without a base, fresh weights of BERT-mini over the same pieces."""
    if base is not None:
        return trained(run, file, [*changes, f"base={base}"])
    pieces = base_folder(folder, "wikitext2", trial) / "tokenizer.json"
    return trained(run, file, [*changes, "base=null", "model=bert-mini", f"vocabulary.file={pieces}"])


def trained(run: Path, file: Path, changes: list[str]) -> dict[str, Any]:
    """Metrics of the best checkpoint; seconds, and the GiB of the process at its highest."""
    command = [sys.executable, "-m", "kotya", "train", file, *changes, "--output", run, "--resume"]
    print(f"{time.strftime('%H:%M')} {run.name}", file=sys.stderr, flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
        if child.returncode:
            sys.exit(f"kotya train {file} failed:\n{text[-2_000:]}")
        if "--resume goes on" in text:
            sys.exit(f"{run} was stopped; the same command goes on with it")
    seconds = time.perf_counter() - began
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    return {
        "metrics": best_metrics(run),
        "seconds": round(seconds, 1),
        "peak_gib": round(usage.ru_maxrss / 2**20, 2),
    }


def best_metrics(run: Path) -> dict[str, float]:
    """Of a run, those of the evaluation that was best by the task's own metric, its first."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [record["dev"] for record in map(json.loads, lines) if "dev" in record]
    first = next(iter(found[0]))
    best: dict[str, float] = max(found, key=lambda one: one[first])
    return best


def command(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kotya", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"kotya {' '.join(map(str, words))} failed:\n{done.stderr[-2_000:]}")


def transformers(run: Path, file: Path, base: Path, changes: list[str]) -> dict[str, Any]:
    """The same by its Trainer, in the peers' environment, from the same weights in its own form."""
    theirs = base.with_name(f"{base.name}-huggingface")
    with making(theirs):
        if not theirs.exists():
            command("export", base, theirs, "--to", "huggingface")
    recipe = recipes.read(file, changes)
    data: Any = recipe.data
    root = recipe.data_root().absolute()
    device = find_device("auto")
    bf16, _ = resolve(recipe.training.precision, device)
    job = {
        "task": recipe.task,
        "train": [str(root / one) for one in data.train],
        "dev": str(root / data.dev),
        "columns": getattr(data, "columns", None),
        "numbers": getattr(data, "labels", None) == "numbers",
        "training": recipe.training.model_dump(mode="json"),
        "bf16": bf16,
        "cpu": device.type == "cpu",
        "model": str(theirs),
        "run": str(run),
    }
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    with making(peers.FOLDER):
        python = peers.install()
    print(f"{time.strftime('%H:%M')} {run.name}", file=sys.stderr, flush=True)
    began = time.perf_counter()
    done = subprocess.run(
        [python, HERE / "trainer_transformers.py"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        sys.exit(f"trainer_transformers.py failed:\n{done.stderr[-3_000:]}")
    seconds = time.perf_counter() - began
    return {"metrics": json.loads(done.stdout.splitlines()[-1]), "seconds": round(seconds, 1)}


def table(folder: Path) -> str:
    """A row a set and side: the mean over seeds, its standard error, the seeds themselves, minutes."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.*.*.json"))]
    rows = [
        "| set | metric | side | mean | standard error | by seed | minutes a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in SETS:
        for side in one.sides:
            some = sorted(
                (cell for cell in cells if cell["set"] == one.name and cell["side"] == side),
                key=lambda cell: cell["seed"],
            )
            if not some:
                continue
            values = [cell["metrics"][one.metric] for cell in some]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            by_seed = ", ".join(
                f"{cell['seed']}: {value:.2f}" for cell, value in zip(some, values, strict=True)
            )
            minutes = statistics.mean(cell["seconds"] for cell in some) / 60
            rows.append(
                f"| {one.name} | {one.metric} | {side} | {statistics.mean(values):.2f} | "
                f"{'' if error is None else f'{error:.2f}'} | {by_seed} | {minutes:.1f} |"
            )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
