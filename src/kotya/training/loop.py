"""The one training loop. It knows tasks by their seam only: batches, loss terms with weights, dev metrics.

Every update is a function of (recipe, update): data order, BPE-dropout and dropout are seeded by it. So a run that was
killed and resumed ends with the same weights, bit for bit, as one that was not (CPU, same number of threads).
"""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kotya.errors import Fault
from kotya.folder import WEIGHTS, read_weights, save_weights
from kotya.tasks.settings import TrainingConfig
from kotya.tasks.task import Task
from kotya.training import checkpoint
from kotya.training.checkpoint import Progress
from kotya.training.optimizer import build_optimizer, learning_rate
from kotya.training.precision import resolve
from kotya.training.progress import Reporter, import_tensorboard


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    update: int
    metrics: dict[str, float]
    """Of the model that was kept, on the dev set; empty before the first evaluation."""
    finished: bool
    """False where a signal or the limit in minutes stopped it: `--resume` goes on."""


class Loop:
    """A run: a model, a task, and a folder that always holds the best model so far."""

    def __init__(
        self,
        model: nn.Module,
        learned: dict[str, nn.Parameter],
        task: Task,
        config: TrainingConfig,
        run: Path,
        device: torch.device,
        reporter: Reporter,
    ) -> None:
        """`learned`: the weights that are the run's own, kept in its folder: all, or those of an adapter."""
        self.model, self.task, self.config, self.run = model.to(device), task, config, run
        self.learned = learned
        self.device, self.reporter = device, reporter
        bf16, note = resolve(config.precision, device)
        if note is not None:
            reporter.say(note)
        self.autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=bf16)
        self.optimizer = build_optimizer(model, config)
        self.progress = Progress()
        self.stopped: str | None = None

    def resume(self) -> None:
        """Go back to the newest checkpoint; without any, begin anew."""
        found = checkpoint.newest(self.run)
        if found is not None:
            self.progress = checkpoint.load(found, self.learned, self.optimizer)
            self.reporter.say(f"resuming after update {self.progress.update:,}")
        else:
            self.reporter.say("there is no checkpoint yet: beginning anew")
        checkpoint.cut_log(self.run / "metrics.jsonl", self.progress.update)

    def train(self) -> Outcome:
        """Run to the end, or until stopped. Raises Fault where the loss or the gradient is no number."""
        updates = self.updates()
        if self.config.compile:
            self.model.compile(dynamic=True)
        writer = None
        if self.config.tensorboard:
            # what a killed run wrote past its checkpoint is hidden, so that no curve runs twice
            writer = import_tensorboard()(self.run / "tensorboard", purge_step=self.progress.update + 1)
        every = self.config.evaluate_every or max(1, self.epoch() // self.config.accumulate)
        self.reporter.start(updates, self.progress.update)
        try:
            # line by line: who looks on sees every update
            with _signals(self._stop), open(self.run / "metrics.jsonl", "a", 1, encoding="utf-8") as log:
                self._run(updates, every, log, writer)
            metrics = self._finish() if self.stopped is None else self.progress.best
        finally:
            self.reporter.stop()
            if writer is not None:
                writer.close()
        return Outcome(self.progress.update, metrics, self.stopped is None)

    def updates(self) -> int:
        """How many updates the recipe asks for; an epoch has as many batches as its first round says."""
        if self.config.updates is not None:
            return self.config.updates
        assert self.config.epochs is not None
        return max(1, self.config.epochs * self.epoch() // self.config.accumulate)

    def epoch(self) -> int:
        """Batches of an epoch."""
        return self.task.rounds * len(self.task.round(0))

    def _stop(self, why: str) -> None:
        self.stopped = why

    def _run(self, updates: int, every: int, log: Any, writer: Any) -> None:
        progress, config = self.progress, self.config
        stream = self._batches()
        began, before = time.monotonic(), progress.seconds
        reported = began
        if self._stale():
            self.reporter.say("this run was stopped early; a larger training.patience goes on with it")
        while progress.update < updates and not self._stale():
            batches = [next(stream) for _ in range(config.accumulate)]
            record = self._update(batches, updates)
            now = time.monotonic()
            progress.seconds = before + now - began
            record |= {
                "tokens_per_second": record["tokens"] / (now - reported),
                "seconds_per_update": now - reported,
                "seconds": progress.seconds,
            }
            reported = now
            log.write(json.dumps({"update": progress.update, **record}) + "\n")
            self.reporter.step(progress.update, record)
            if writer is not None and progress.update % 20 == 0:
                for name, value in record.items():
                    writer.add_scalar(f"train/{name}", value, progress.update)
            due = progress.update % every == 0 or progress.update == updates
            if due:
                self._evaluate(log, writer)
                reported = time.monotonic()
            if progress.update == updates or self._stale():
                break
            if config.minutes is not None and now - began > 60 * config.minutes:
                self._stop(f"the limit of {config.minutes:g} minutes")
            if self.stopped is not None:
                if not due:
                    self._save()
                self.reporter.say(
                    f"stopped by {self.stopped} after update {progress.update:,}; --resume goes on"
                )
                return
        if self._stale() and progress.update < updates:
            self.reporter.say(f"no better checkpoint in {config.patience} evaluations: stopped early")
        self.stopped = None

    def _batches(self) -> Iterator[Any]:
        """Batches from where the run stands, round after round, counted as they are handed out."""
        progress = self.progress
        while True:
            batches = self.task.round(progress.round)
            while progress.batch < len(batches):
                progress.batch += 1
                yield self.task.batch(batches[progress.batch - 1], progress.round)
            progress.round, progress.batch = progress.round + 1, 0

    def _update(self, batches: list[Any], updates: int) -> dict[str, float]:
        """One step of the optimiser."""
        progress, config = self.progress, self.config
        progress.update += 1
        torch.manual_seed((config.seed << 32) + progress.update)
        self.model.train()
        micro = [batch.to(self.device) for batch in batches]
        weight: dict[str, float] = {}
        for batch in micro:
            for name, value in self.task.weights(batch).items():
                weight[name] = weight.get(name, 0.0) + value
        report: dict[str, float] = {}
        for batch in micro:
            with self.autocast():
                terms = self.task.losses(self.model, batch)
            means = {name: term / weight[name] for name, term in terms.items()}
            torch.stack([mean for mean in means.values() if mean.requires_grad]).sum().backward()
            for name, mean in means.items():
                report[name] = report.get(name, 0.0) + float(mean.detach())
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), config.clip))
        loss = sum(value for name, value in report.items() if not name.endswith("nll"))
        if not math.isfinite(norm) or not math.isfinite(loss):
            self._fail("gradient" if math.isfinite(loss) else "loss")
        rate = learning_rate(config, progress.update, updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(batch.tokens for batch in micro)
        progress.tokens += tokens
        return {**report, "loss": loss, "gradient_norm": norm, "learning_rate": rate, "tokens": float(tokens)}

    def _fail(self, what: str) -> None:
        found = checkpoint.list_checkpoints(self.run)
        kept = f"the last good checkpoint is {found[-1]}" if found else "there was no checkpoint yet"
        raise Fault(
            f"the {what} of update {self.progress.update:,} is not a number; {kept}. "
            "A lower training.learning_rate, a longer warmup or precision=float32 may help"
        )

    def _evaluate(self, log: Any, writer: Any) -> None:
        """Evaluate, write the checkpoint, and keep the model if it is the best."""
        progress = self.progress
        self.model.eval()
        evaluation = self.task.evaluate(self.model, self.autocast)
        best = not progress.best or self._better(evaluation.metrics, progress.best)
        if best:
            progress.best, progress.best_update, progress.stale = evaluation.metrics, progress.update, 0
        else:
            progress.stale += 1
        progress.evaluations.append(progress.update)
        log.write(json.dumps({"update": progress.update, "dev": evaluation.metrics}) + "\n")
        if writer is not None:
            for name, metric in evaluation.metrics.items():
                writer.add_scalar(f"dev/{name}", metric, progress.update)
        self.reporter.evaluation(progress.update, evaluation, best=best)
        if best:  # before the checkpoint: a resumed run knows of no best model that the folder does not hold
            save_weights(self.run / WEIGHTS, self.learned)
        self._save()

    def _better(self, one: dict[str, float], other: dict[str, float]) -> bool:
        sign = -1 if self.task.lower_is_better else 1
        return sign * one[self.task.metric] > sign * other[self.task.metric]

    def _save(self) -> None:
        checkpoint.save(self.run, self.learned, self.optimizer, self.progress)
        checkpoint.prune(self.run, self.progress, self.config.average)

    def _stale(self) -> bool:
        """Whether patience is at its end; as the run stands, so that one that is resumed knows it too."""
        return self.config.patience is not None and self.progress.stale >= self.config.patience

    def _finish(self) -> dict[str, float]:
        """The best model stays, unless the mean of the last checkpoints is better on dev; the metrics of what stays."""
        progress = self.progress
        folder = self.run / "checkpoints"
        best = folder / f"{progress.best_update:07d}"
        self._put(best)
        kept = progress.best
        last = [folder / f"{update:07d}" for update in progress.evaluations[-self.config.average :]]
        if len(last) > 1:
            averaged = checkpoint.average(last, checkpoint.untrained(self.learned))
            self._put_tensors(averaged)
            self.model.eval()
            evaluation = self.task.evaluate(self.model, self.autocast)
            name = self.task.metric
            value, most = evaluation.metrics[name], progress.best[name]
            better = self._better(evaluation.metrics, progress.best)
            which = "kept: the average" if better else "kept: the best"
            self.reporter.say(
                f"average of the last {len(last)}: dev {name} {value:.2f}; "
                f"best (update {progress.best_update:,}): {most:.2f}; {which}"
            )
            if better:
                kept = evaluation.metrics
            else:
                self._put(best)
        save_weights(self.run / WEIGHTS, self.learned)
        return kept

    def _put(self, folder: Path) -> None:
        self._put_tensors(read_weights(folder / WEIGHTS))

    @torch.no_grad()
    def _put_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.learned.items():
            parameter.copy_(tensors[name])


@contextmanager
def _signals(stop: Callable[[str], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C ask the loop to stop after its update; a second one stops at once."""

    def handle(number: int, _: Any) -> None:
        stop(signal.Signals(number).name)
        signal.signal(number, before[number])

    before: dict[int, Any] = {int(one): signal.signal(one, handle) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
