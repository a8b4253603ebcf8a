"""What a person sees of a run: a bar with speed, time left and metric; plain lines where stderr is no terminal."""

import time
from collections import deque
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from kotya.errors import KotyaError
from kotya.tasks.task import Evaluation

_LONGEST = 400
"""Characters of a sample that are shown: of a document, its beginning."""
_EVERY = 20.0
"""Seconds between plain lines."""
_WINDOW = 100
"""Updates that speed and time left are a mean of: batches differ."""


@runtime_checkable
class Reporter(Protocol):
    """Whoever shows a run."""

    def start(self, updates: int, update: int) -> None: ...
    def step(self, update: int, record: dict[str, float]) -> None: ...
    def evaluation(self, update: int, evaluation: Evaluation, *, best: bool) -> None: ...
    def say(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Terminal:
    """Shows a run on stderr."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.updates = 0
        self.last = 0.0
        self.metric = ""
        self.recent: deque[tuple[float, float]] = deque(maxlen=_WINDOW)

    def start(self, updates: int, update: int) -> None:
        self.updates, self.last = updates, time.monotonic()
        if not self.console.is_terminal:
            return
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[about]}"),
        )
        self.bar = Progress(*columns, console=self.console)
        self.task = self.bar.add_task("training", total=updates, completed=update, about="")
        self.bar.start()

    def step(self, update: int, record: dict[str, float]) -> None:
        self.recent.append((record["tokens"], record["seconds_per_update"]))
        tokens, seconds = (sum(column) for column in zip(*self.recent, strict=True))
        about = f"{tokens / seconds:,.0f} tokens/s  loss {record['loss']:.3f}  {self.metric}"
        if self.bar is not None:
            self.bar.update(self.task, completed=update, about=about)
        elif time.monotonic() - self.last >= _EVERY:
            self.last = time.monotonic()
            left = (self.updates - update) * seconds / len(self.recent)
            self.say(f"update {update:,} of {self.updates:,}  {about} {_duration(left)} left")

    def evaluation(self, update: int, evaluation: Evaluation, *, best: bool) -> None:
        shown = "  ".join(f"{name} {value:.2f}" for name, value in evaluation.metrics.items())
        self.metric = f"dev {shown}"
        self.say(f"update {update:,}: {self.metric}{'  (best so far)' if best else ''}")
        for source, output, reference in evaluation.samples:
            for role, text in (("source", source), ("output", output), ("reference", reference)):
                self.say(f"  {role:10} {text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}")

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()


class Silent:
    """Shows nothing."""

    def start(self, updates: int, update: int) -> None: ...
    def step(self, update: int, record: dict[str, float]) -> None: ...
    def evaluation(self, update: int, evaluation: Evaluation, *, best: bool) -> None: ...
    def say(self, text: str) -> None: ...
    def stop(self) -> None: ...


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def import_tensorboard() -> Any:
    """The class of TensorBoard's writer. Raises KotyaError where the extra is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise KotyaError("training.tensorboard needs the extra: pip install 'kotya[tensorboard]'") from None
    return SummaryWriter
