"""`auto` is what the device has instructions for; what is said of a precision is said once, only where it matters."""

from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from torch import nn

from kotya.tasks.settings import TrainingConfig
from kotya.tasks.task import Task
from kotya.training.loop import Loop
from kotya.training.precision import resolve
from kotya.training.progress import Silent

CPU = torch.device("cpu")


def give_instructions(monkeypatch: pytest.MonkeyPatch, *, avx512: bool = False, amx: bool = False) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_auto_on_a_cpu_follows_its_instructions(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool
) -> None:
    give_instructions(monkeypatch, avx512=avx512, amx=amx)
    bf16, note = resolve("auto", CPU)
    assert bf16 is (avx512 or amx)
    assert note is not None
    assert ("bf16" in note) is bf16
    assert ("float32" in note) is not bf16


@pytest.mark.parametrize("able", [False, True])
def test_auto_on_a_gpu_asks_for_products_that_are_not_emulated(
    monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: able or including_emulation
    )
    assert resolve("auto", torch.device("cuda"))[0] is able


def test_auto_on_a_device_that_cannot_be_asked_is_float32() -> None:
    assert resolve("auto", torch.device("meta"))[0] is False


def test_bf16_is_obeyed_and_an_unable_cpu_says_what_it_costs_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give_instructions(monkeypatch)
    bf16, note = resolve("bf16", CPU)
    assert bf16
    assert note is not None
    assert "this CPU" in note
    assert "slower" in note
    assert "\n" not in note
    give_instructions(monkeypatch, avx512=True)
    assert resolve("bf16", CPU) == (True, None)


@pytest.mark.parametrize("able", [False, True])
def test_float32_says_nothing(monkeypatch: pytest.MonkeyPatch, able: bool) -> None:
    give_instructions(monkeypatch, avx512=able)
    assert resolve("float32", CPU) == (False, None)


@pytest.mark.parametrize("able", [False, True])
def test_a_run_multiplies_in_what_was_resolved_and_says_it(
    monkeypatch: pytest.MonkeyPatch, able: bool, tmp_path: Path
) -> None:
    give_instructions(monkeypatch, avx512=able)
    said: list[str] = []
    model = nn.Linear(2, 2)
    task: Any = create_autospec(Task, instance=True)
    reporter = Silent()
    monkeypatch.setattr(reporter, "say", said.append)
    loop = Loop(
        model, dict(model.named_parameters()), task, TrainingConfig(updates=1), tmp_path, CPU, reporter
    )
    with loop.autocast():
        assert model(torch.ones(1, 2)).dtype is (torch.bfloat16 if able else torch.float32)
    assert said == [resolve("auto", CPU)[1]]
