"""Tasks over long texts by kind of attention: recipes/long, cell by cell.

    python benchmarks/long.py                              every cell that is not there yet
    python benchmarks/long.py --tasks reviews recall --seeds 1
    python benchmarks/long.py --trial 2                    two updates a cell on a few texts, in a folder of its own

A cell is a run of one task by one kind of attention with one seed. Finished ones are kept as JSON in runs/long/, and a
run that was stopped in the middle goes on, so that the same command goes on where it was stopped; the tables there are
written anew after each. ListOps and recall are generated on the first call.

Cells of `characters` have equal time, not equal updates: a few updates say how long one takes where nothing else runs,
and so how many there are. All others have equal updates, and their time is in the table.
"""

import argparse
import gzip
import json
import math
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bert_texts
import machine
from cells import WRITING, making, run_all
from kotya import folder as folders
from kotya import recipe as recipes
from kotya.folder import find_device
from kotya.text.corpus import read_lines

HERE = Path(__file__).parent
ROOT = HERE.parent
RECIPES = ROOT / "recipes" / "long"
WINDOW = "{kind: window, left: 128, right: 128}"
ONE_GLOBAL = f"{{kind: any, of: [{WINDOW}, {{kind: global, positions: 1}}]}}"
SMALL_BIGBIRD = f"{{kind: any, of: [{ONE_GLOBAL}, {{kind: random, blocks: 3}}]}}"
PROBE = 12
"""Updates that say how long one takes; the first two are not counted."""


@dataclass(frozen=True)
class Task:
    """A recipe of recipes/long, and how its cells differ."""

    recipe: str
    metric: str
    cells: dict[str, tuple[str, ...]]
    """By name, what is changed in the recipe."""
    changes: tuple[str, ...] = ()
    """In all of them."""
    base: str | None = None
    """What it begins with: `minilm`, or the task whose cell of the same name and seed has the attention."""
    minutes: float | None = None
    """Of training, equal for all cells."""


def by(key: str, **patterns: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"{key}={pattern}",) for name, pattern in patterns.items()}


CUT = "training.max_length=512"


def extended(**patterns: str) -> dict[str, tuple[str, ...]]:
    """The base extended by each of them, and the same model with texts cut; and the base as it is, which cuts them."""
    long = by("extend.attention", **patterns)
    cut = {f"{name}, cut": (*changes, CUT) for name, changes in long.items()}
    return {"full, cut": ("extend=null", CUT), **cut, **long}


EXTENDED = extended(
    window=ONE_GLOBAL, bigbird=SMALL_BIGBIRD, linear="linear", favor="{kind: linear, features: favor}"
)
SMALL = by(
    "model.attention",
    full="full",
    window=WINDOW,
    longformer=ONE_GLOBAL,
    random="random",
    bigbird=SMALL_BIGBIRD,
    linear="linear",
    favor="{kind: linear, features: favor, size: 256, redraw: 1000}",
    linformer="linformer",
)
GENERATED = {
    "listops-short": ("listops", "--length", "4", "128", "--examples", "60000", "1000", "1000"),
    "listops": ("listops", "--examples", "8000", "500", "500"),
    "recall-128": ("recall", "--length", "128"),
    "recall-4096": ("recall", "--length", "4096", "--examples", "2000", "200", "200"),
    "recall-16384": ("recall", "--length", "16384", "--examples", "1000", "100", "100"),
}
"""By folder the generator of its texts, and options."""
SHORT_RUN = ("training.updates=250", "training.examples=8", "training.evaluate_every=125")
"""Minutes instead of hours."""
SMALL_BATCHES = ("training.examples=8",)
TASKS = {
    "reviews": Task("reviews", "accuracy", EXTENDED, SMALL_BATCHES, "minilm"),
    "hyperpartisan": Task("hyperpartisan", "accuracy", EXTENDED, SMALL_BATCHES, "minilm"),
    "listops-short": Task("listops-short", "accuracy", SMALL),
    "listops": Task("listops", "accuracy", dict.fromkeys(SMALL, ()), SHORT_RUN, base="listops-short"),
    "recall-128": Task("recall", "F1", SMALL),
    "recall-4096": Task("recall-long", "F1", dict.fromkeys(SMALL, ()), base="recall-128"),
    "recall-16384": Task(
        "recall-long",
        "F1",
        {name: () for name in SMALL if name != "full"},
        ("data.train=recall-16384/train.conll", "data.dev=recall-16384/dev.conll", "training.updates=100"),
        base="recall-128",
    ),
    "characters": Task(
        "characters",
        "bits",
        {"growing windows": (), **by("model.attention", full="full", window="{kind: window, left: 128}")},
        minutes=10,
    ),
}


@dataclass
class Place:
    """Where a call works, and whether it is only to see that all of it runs."""

    folder: Path
    trial: int | None

    @property
    def data(self) -> Path:
        return self.folder / "data"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--cells", nargs="*", help="by name; all by default")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--trial", type=int, help="so many updates a cell, on a few texts")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time: more for a GPU, or many cores")
    chosen = parser.parse_args()
    place = Place(ROOT / "runs" / ("long-trial" if chosen.trial else "long"), chosen.trial)
    place.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in chosen.tasks:  # one after the other: a later one may begin with what an earlier one learned
        failed += run_all(
            [
                partial(cell, place, name, one, seed)
                for seed in chosen.seeds
                for one in TASKS[name].cells
                if not chosen.cells or one in chosen.cells
            ],
            chosen.jobs,
        )
    print((place.folder / "tables.md").read_text(encoding="utf-8"))
    return failed


def cell(place: Place, name: str, one: str, seed: int) -> Path:
    """Run it, unless it is there, and write the tables; its model folder."""
    task = TASKS[name]
    run = place.folder / f"{name}.{one.replace(', ', '-').replace(' ', '-')}.{seed}"
    path = run.with_name(f"{run.name}.json")
    if not path.exists():
        print(f"{time.strftime('%H:%M')} {run.name}", file=sys.stderr, flush=True)
        file = RECIPES / f"{task.recipe}.yaml"
        changes = [*task.changes, *task.cells[one], f"training.seed={seed}"]
        with WRITING:
            changes += texts(place, recipes.read(file, task.changes))
        if task.base == "minilm":
            changes.append(f"base={base_folder(place)}")
        elif task.base is not None:
            changes.append(f"base={cell(place, task.base, one, seed)}")
        if place.trial:
            few = "training.tokens=2048" if task.minutes else "training.examples=2"
            changes += [*updates(place.trial), few]
        elif task.minutes:
            changes += updates(fitting(run.with_name(f"{run.name}-probe"), file, changes, task.minutes))
        metrics, seconds = train(run, file, changes)
        if task.metric == "bits":
            metrics["bits"] = bits(run, recipes.read(file, changes), metrics["nll"])
        content = {"task": name, "cell": one, "seed": seed, "metrics": metrics, "seconds": round(seconds, 1)}
        with WRITING:
            path.write_text(
                json.dumps({**content, "machine": machine.describe(find_device("auto").type)}),
                encoding="utf-8",
            )
    with WRITING:
        (place.folder / "tables.md").write_text(tables(place.folder), encoding="utf-8")
    return run


def updates(count: int) -> list[str]:
    return [f"training.updates={count}", "training.epochs=null", "training.evaluate_every=null"]


def base_folder(place: Place) -> Path:
    """MiniLM, imported once."""
    path = place.folder / "base-minilm"
    with making(path):
        if not path.exists():
            command("import", bert_texts.model_folder(), path)
    return path


def texts(place: Place, recipe: Any) -> list[str]:
    """Where the recipe finds its texts: the data root, or what is generated here; in a trial a few of them."""
    root, folder = recipe.data_root().absolute(), Path(recipe.data.dev).parent.name
    if folder in GENERATED:
        root = place.data
        generator, *options = GENERATED[folder]
        if not any((root / folder).glob("test.*")):
            few = ["--examples", "60", "4", "4"] if place.trial else []
            made = [root / folder, *options, *few]
            subprocess.run([sys.executable, HERE / f"{generator}.py", *made], check=True)
    elif place.trial:
        for file in (*recipe.data.train, recipe.data.dev):
            thinned(root / file, place.data / file)
        root = place.data
    return [f"data.root={root}"]


def thinned(source: Path, copy: Path, lines: int = 40) -> None:
    """About so many of its lines, evenly, for labels may stand in order; in a file of the same kind."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if source.suffix == ".gz" else open
    with opened(source, "rt", encoding="utf-8") as file, opened(copy, "wt", encoding="utf-8") as few:
        every = file.readlines()
        few.writelines(every[:: max(1, len(every) // lines)])


def fitting(run: Path, file: Path, changes: list[str], minutes: float) -> int:
    """How many updates there are in so many minutes."""
    train(run, file, [*changes, *updates(PROBE)])
    # of the fastest, for other work on the machine makes the others slower
    seconds = min(record["seconds_per_update"] for record in log(run)[2:] if "seconds_per_update" in record)
    return max(1, round(60 * minutes / seconds))


def train(run: Path, file: Path, changes: list[str]) -> tuple[dict[str, float], float]:
    """The metrics of the evaluation that was best, and the seconds of all updates, evaluations aside."""
    command("train", file, *changes, "--output", run, "--resume")
    records = log(run)
    found = [record["dev"] for record in records if "dev" in record]
    metric = next(iter(found[0]))
    best: dict[str, float] = (min if metric == "perplexity" else max)(found, key=lambda one: one[metric])
    return best, sum(record.get("seconds_per_update", 0.0) for record in records)


def bits(run: Path, recipe: Any, nll: float) -> float:
    """Of a character of the dev set, of which line ends are none; each document's end is one piece."""
    (vocabulary, _), documents = folders.read_vocabularies(run), 1
    pieces = characters = 0
    for line in read_lines(recipe.data_root() / recipe.data.dev):
        pieces, characters = pieces + len(vocabulary.encode(line)), characters + len(line)
        documents += not line.strip()
    return nll / math.log(2) * (pieces + documents) / characters


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def command(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kotya", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode or "--resume goes on" in done.stderr:  # stopped, and no cell yet
        sys.exit(f"kotya {' '.join(map(str, words))} did not come to its end:\n{done.stderr[-2_000:]}")


def tables(folder: Path) -> str:
    """One a task: a row a cell, with the mean over seeds, the seeds themselves, and minutes of training."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.*.*.json"))]
    written = []
    for name, task in TASKS.items():
        title = "bits a character" if task.metric == "bits" else task.metric
        rows = [f"| {name} | {title} | by seed | minutes |", "|---|---|---|---|"]
        for one in task.cells:
            some = [cell for cell in cells if (cell["task"], cell["cell"]) == (name, one)]
            if not some:
                continue
            values = [cell["metrics"][task.metric] for cell in some]
            by_seed = ", ".join(
                f"{cell['seed']}: {value:.3f}" for cell, value in zip(some, values, strict=True)
            )
            minutes = statistics.mean(cell["seconds"] for cell in some) / 60
            rows.append(f"| {one} | {statistics.mean(values):.3f} | {by_seed} | {minutes:.1f} |")
        if rows[2:]:
            written.append("\n".join(rows))
    return "\n\n".join(written) + "\n"


if __name__ == "__main__":
    sys.exit(main())
