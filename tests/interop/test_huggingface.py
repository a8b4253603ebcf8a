"""Which folder or name is read by whom; the hub itself is never called here."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from kotya import folder
from kotya.cli.import_ import import_
from kotya.errors import Fault, KotyaError
from kotya.interop.huggingface import import_model, read
from tiny_marian import sentences


def test_a_local_folder_is_read(marian: Path) -> None:
    assert read(str(marian)).config.model.size == 16


def test_a_hub_name_is_fetched_and_read(marian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetch(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert "*.safetensors" in allow_patterns
        assert not any(pattern.endswith(".bin") for pattern in allow_patterns)
        return str(marian)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert read("owner/some-model").config.model.size == 16
    assert read("owner/some-model@refs/pr/3").config.model.size == 16
    assert asked == [("owner/some-model", None), ("owner/some-model", "refs/pr/3")]


def no_such_model(*_: object, **__: object) -> str:
    raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)


def no_network(*_: object, **__: object) -> str:
    raise LocalEntryNotFoundError("the cache lacks it and there is no connection\nsecond line")


def test_a_name_the_hub_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_such_model)
    with pytest.raises(
        KotyaError, match="owner/nothing: no such folder, and the Hugging Face hub has no such"
    ):
        read("owner/nothing")


def test_no_network_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    with pytest.raises(Fault, match="cannot be reached") as caught:
        read("owner/model")
    assert "\n" not in str(caught.value)


def test_neither_folder_nor_name(tmp_path: Path) -> None:
    with pytest.raises(KotyaError, match="no such folder, and not a name"):
        read(str(tmp_path / "nothing" / "here"))


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(KotyaError, match="not a folder"):
        read(str(path))


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(KotyaError, match=r"config\.json: no such file"):
        read(str(tmp_path))


@pytest.mark.parametrize("family", ["t5", None, 3])
def test_another_family_is_named(tmp_path: Path, family: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    with pytest.raises(KotyaError, match=r"are not read; these are: marian"):
        read(str(tmp_path))


def test_an_imported_folder_is_the_model(marian: Path, tmp_path: Path) -> None:
    imported = import_model(str(marian), tmp_path / "imported")
    loaded = folder.load(tmp_path / "imported")
    assert loaded.config == imported.config
    assert loaded.config.search.beam == 4
    for ours, theirs in zip(loaded.vocabularies, imported.vocabularies, strict=True):
        assert ours.roles == theirs.roles
        assert ours.encode_batch(sentences(20, 4)) == theirs.encode_batch(sentences(20, 4))
    written = dict(loaded.model.named_parameters())
    for name, parameter in imported.model.named_parameters():
        assert torch.equal(written[name], parameter)


def test_nothing_is_written_over(marian: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(KotyaError, match="there is something already"):
        import_model(str(marian), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_nothing_is_left_of_a_failed_import(marian: Path, tmp_path: Path) -> None:
    shutil.copytree(marian, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"\x08")
    with pytest.raises(KotyaError, match=r"model\.safetensors: broken or cut off"):
        import_(str(tmp_path / "broken"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_the_command(marian: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import_(str(marian), tmp_path / "imported")
    captured = capfd.readouterr()
    assert not captured.out
    assert "pieces written to" in captured.err
    assert folder.read_config(tmp_path / "imported").model.position_layout == "halves"
