"""A folder of Hugging Face's straight away as a base, by flags alone: imported once, told whose it is, taken over."""

import shutil
from pathlib import Path

import pytest
import torch

from kotya import folder
from kotya.cli.main import run
from kotya.interop.huggingface import import_model
from tiny_folders import write
from tiny_tasks import classification


def test_a_foreign_folder_is_a_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    theirs, data = tmp_path / "theirs", tmp_path / "labels"
    data.write_text(classification(40, 1), encoding="utf-8")

    def tune(name: str) -> str:
        flags = ["--task", "classification", "--data", str(data), "--base", str(theirs)]
        settings = ["training.updates=1", "training.learning_rate=1e-12"]
        assert run(["train", *flags, "-o", str(tmp_path / name), *settings]) == 0, capsys.readouterr().err
        return capsys.readouterr().err

    write("bert", "Model", theirs)
    first = tune("one")
    assert f"{theirs}: imported to {tmp_path / 'cache'}" in first.replace("\n", "")
    assert f"{theirs}: imported before, to {tmp_path / 'cache'}" in tune("two").replace("\n", "")
    import_model(str(theirs), tmp_path / "ours")
    expected, found = (folder.read_weights(tmp_path / name / folder.WEIGHTS) for name in ("ours", "one"))
    encoder = [name for name in expected if name.startswith("encoder.")]
    assert len(encoder) > 10
    for name in encoder:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-8)
    tuned = folder.load(tmp_path / "one")
    assert tuned.vocabularies[0].fingerprint == folder.load(tmp_path / "ours").vocabularies[0].fingerprint

    adapted = ["--task", "classification", "--data", str(data), "--base", str(theirs), "adapt.kind=lora"]
    assert run(["train", *adapted, "-o", str(tmp_path / "lora"), "training.updates=1"]) == 0
    asked = ["predict", str(tmp_path / "lora"), str(data), "--columns=-,text"]
    capsys.readouterr()
    assert run(asked) == 0
    answers = capsys.readouterr().out
    shutil.rmtree(tmp_path / "cache")
    assert run(asked) == 2
    assert "where there is no model; say where: --base" in capsys.readouterr().err
    assert run([*asked, "--base", str(theirs)]) == 0
    assert capsys.readouterr().out == answers

    write("roberta", "Model", theirs)  # another model under the same name is another base
    assert f"{theirs}: imported to {tmp_path / 'cache'}" in tune("three").replace("\n", "")
