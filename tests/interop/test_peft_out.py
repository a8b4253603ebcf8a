"""What of a LoRA over a base that is held or extended is written in PEFT's form."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kotya import recipe as recipes
from kotya.cli.main import run as command
from kotya.interop.peft_out import export_peft
from kotya.training.progress import Silent
from kotya.training.run import train
from tiny_tasks import content, small_task
from tuned_adapters import HOULSBY, LORA, on_base, tuned


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peft-out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        (folder / "data").mkdir()
        train(small_task(folder / "data", "classification", updates=2), folder / "bert", reporter=Silent())
        for name, adapt in (("int8", LORA | {"held": "int8"}), ("houlsby", HOULSBY)):
            (folder / name).mkdir()
            tuned(folder / name, folder / "bert", "classification", adapt)
    return folder / "bert"


def test_a_lora_is_written_the_same_whatever_its_base_is_held_in(base: Path, tmp_path: Path) -> None:
    held = base.parent / "int8" / "classification-lora"
    shutil.copytree(held, tmp_path / "float32")
    file = tmp_path / "float32" / "config.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    assert told["adapter"]["adapt"]["held"] == "int8"
    told["adapter"]["adapt"]["held"] = "float32"
    file.write_text(json.dumps(told), encoding="utf-8")
    for name, path in (("one", held), ("other", tmp_path / "float32")):
        export_peft(path, tmp_path / name, base)
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "other"))
    assert one.keys() == other.keys()
    assert len(one) > 4
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_peft_would_find_no_base_for_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(base.parent / "cache"))
    plan = on_base(content(tmp_path, "classification", updates=1, evaluate_every=1), base, LORA)
    plan["extend"] = {"max_length": 64, "attention": "longformer"}
    train(recipes.parse(plan, "test"), tmp_path / "long", reporter=Silent())
    houlsby = base.parent / "houlsby" / "classification-houlsby"
    for path, form, message in (
        (tmp_path / "long", "peft", "made with another max_length and attention than its base has (extend)"),
        (tmp_path / "long", "huggingface", "--to peft writes a LoRA, and kotya merge makes a whole model"),
        (houlsby, "huggingface", "adapters of kind houlsby have no form there"),
    ):
        capfd.readouterr()
        assert command(["export", str(path), str(tmp_path / "out"), "--to", form]) == 2
        line = capfd.readouterr().err
        assert message in line
        assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()
