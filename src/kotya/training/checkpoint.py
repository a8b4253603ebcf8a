"""Checkpoints: all that an exact resume needs, in a folder an update, written whole or not at all, and no pickle.

`checkpoints/0001000/`: weights, the optimiser's moments, and where the run stands. Batches, masks and dropout are
functions of (seed, update), so no generator's state is kept. Of checkpoints that only serve averaging the weights stay.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from kotya.errors import Fault, KotyaError
from kotya.files import write_text
from kotya.folder import WEIGHTS, read_weights, save_weights

OPTIMIZER, PROGRESS = "optimizer.safetensors", "progress.json"
Learned = Mapping[str, nn.Parameter]
"""The weights that are a run's own, by name."""


@dataclass
class Progress:
    """Where a run stands after an update."""

    update: int = 0
    round: int = 0
    batch: int = 0
    """Batches of the round that were used."""
    tokens: int = 0
    seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    """The dev metrics of the best model, and since when."""
    best_update: int = 0
    evaluations: list[int] = field(default_factory=list)
    """Updates after which the dev set was evaluated."""
    stale: int = 0
    """Evaluations since the best one."""


def list_checkpoints(run: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob("[0-9]*") if (path / PROGRESS).exists())


def newest(run: Path) -> Path | None:
    """The checkpoint to go on from: the newest that holds the optimiser's moments; None before the first.

    Raises KotyaError where there are checkpoints and none is whole: beginning anew would throw them away.
    """
    found = list_checkpoints(run)
    whole = [path for path in found if (path / WEIGHTS).exists() and (path / OPTIMIZER).exists()]
    if found and not whole:
        raise KotyaError(
            f"{run / 'checkpoints'}: no checkpoint is whole, each lacks {WEIGHTS} or {OPTIMIZER}; "
            "remove them all to begin anew"
        )
    return whole[-1] if whole else None


def save(run: Path, learned: Learned, optimizer: torch.optim.Optimizer, progress: Progress) -> Path:
    """Write the checkpoint of this update. Raises Fault where the disk does not take it."""
    folder = run / "checkpoints" / f"{progress.update:07d}"
    building = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        save_weights(building / WEIGHTS, learned)
        save_weights(building / OPTIMIZER, moments(learned, optimizer))
        write_text(building / PROGRESS, json.dumps(asdict(progress)))
        if folder.exists():  # of a time line that was given up; what this one goes on from is an older one
            _remove(folder)
        building.rename(folder)
    except OSError as error:
        raise Fault(f"{folder}: could not be written ({error.strerror})") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def load(folder: Path, learned: Learned, optimizer: torch.optim.Optimizer) -> Progress:
    """Put a checkpoint's weights and moments into place. Raises KotyaError where it is broken or does not fit."""
    stored = read_weights(folder / WEIGHTS)
    kept, progress = read_weights(folder / OPTIMIZER), read_progress(folder / PROGRESS)
    if {name: tensor.shape for name, tensor in stored.items()} != {n: p.shape for n, p in learned.items()}:
        raise KotyaError(
            f"{folder}: not a checkpoint of this model: its weights have other names or shapes; was a file replaced?"
        )
    with torch.no_grad():
        for name, parameter in learned.items():
            parameter.copy_(stored[name])
            optimizer.state[parameter] = {
                key.rpartition("/")[2]: tensor.to(parameter.device)
                for key, tensor in kept.items()
                if key.rpartition("/")[0] == name
            }
    return progress


def read_progress(path: Path) -> Progress:
    """Where a run stood. Raises KotyaError where the file does not say it."""
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise KotyaError(
            f"{path}: broken or cut short ({error}); remove {path.parent} to go on from an older checkpoint"
        ) from None


def moments(learned: Learned, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers, by `parameter/quantity`."""
    return {
        f"{name}/{key}": value
        for name, parameter in learned.items()
        for key, value in optimizer.state[parameter].items()
    }


def prune(run: Path, progress: Progress, average: int) -> None:
    """Keep the newest whole, the best and those to be averaged as weights, and nothing else."""
    for rest in (run / "checkpoints").glob(".[0-9]*"):  # what a kill left half-written or half-removed
        shutil.rmtree(rest)
    newest = progress.update
    wanted = {*progress.evaluations[-average:], progress.best_update}
    for folder in list_checkpoints(run):
        update = int(folder.name)
        if update == newest:
            continue
        if update in wanted:
            (folder / OPTIMIZER).unlink(missing_ok=True)
        else:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Out of sight first, so that no half of it is ever taken for a checkpoint."""
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)  # one whose removal was cut short
    folder.rename(doomed)
    shutil.rmtree(doomed)


def untrained(parameters: Learned) -> set[str]:
    """The weights that are drawn and not learned: random features."""
    return {name for name, parameter in parameters.items() if not parameter.requires_grad}


def average(folders: list[Path], drawn: Collection[str]) -> dict[str, Tensor]:
    """The mean of the weights of checkpoints or model folders, summed in float64.

    Those that are `drawn` are those of the last folder: the mean of two draws of random features is none.
    """
    total, tensors = dict[str, Tensor](), dict[str, Tensor]()
    for folder in folders:
        tensors = read_weights(folder / WEIGHTS)
        if total and {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in total.items()}:
            raise KotyaError(
                f"{folder}: its weights are not those of {folders[0]}; only equal models are averaged"
            )
        for name, tensor in tensors.items():
            total[name] = tensor.double() + total.get(name, 0.0)
    return {
        name: tensors[name] if name in drawn else (tensor / len(folders)).float()
        for name, tensor in total.items()
    }


def cut_log(path: Path, update: int) -> None:
    """Take back what the log says of later updates, and a last line that a kill cut short.

    Raises KotyaError for any other line that is no record.
    """
    if not path.exists():
        return
    lines, kept = path.read_bytes().splitlines(), []
    for number, line in enumerate(lines, start=1):
        recorded = recorded_update(line)
        if recorded is None and number < len(lines):
            raise KotyaError(f"{path}:{number}: not a record of training; remove the line to go on")
        if recorded is not None and recorded <= update:
            kept.append(line.decode() + "\n")
    write_text(path, "".join(kept))


def recorded_update(line: bytes) -> int | None:
    """The update that a line of the log tells of; None where the line is not whole."""
    try:
        return int(json.loads(line)["update"])
    except (ValueError, TypeError, KeyError):
        return None
