"""The model folder: what is written is read; what is broken is said in a line; nothing is ever half-written."""

import resource
from pathlib import Path

import pytest
import torch

from kotya import folder
from kotya.errors import Fault, KotyaError
from kotya.models.transformer import TransformerConfig
from kotya.tasks.translation_recipe import TranslationFolder
from kotya.text.vocabulary import Vocabulary

LINES = ["the cat sat on the mat", "a cat is a cat"] * 5
SMALL = TransformerConfig(size=16, heads=2, feed_forward=16, encoder_layers=1, decoder_layers=1)


def write(path: Path, *, joint: bool = True) -> torch.nn.Module:
    torch.manual_seed(1)
    first = Vocabulary.learn(lambda: LINES, 290)
    second = first if joint else Vocabulary.learn(lambda: [line.upper() for line in LINES], 280)
    config = TranslationFolder(
        model=SMALL if joint else SMALL.model_copy(update={"share": "none"}),
        banned=[0, 1, 2],
    )
    model = config.model.build(len(first), len(second))
    folder.create(
        path, config=config, vocabularies=(first, second), recipe=None, tensors=folder.weights(model)
    )
    return model


@pytest.mark.parametrize("joint", [True, False])
def test_what_is_written_is_read(tmp_path: Path, joint: bool) -> None:
    model = write(tmp_path / "model", joint=joint)
    loaded = folder.load(tmp_path / "model")
    assert {n: p.tolist() for n, p in model.named_parameters()} == {
        n: p.tolist() for n, p in loaded.model.named_parameters()
    }
    assert (loaded.vocabularies[0] is loaded.vocabularies[1]) is joint
    source, lengths = torch.tensor([[5, 6, 3]]), torch.tensor([3])
    torch.testing.assert_close(model.eval()(source, lengths, source), loaded.model(source, lengths, source))
    assert not loaded.model.training


def test_a_shared_matrix_is_stored_once(tmp_path: Path) -> None:
    write(tmp_path / "model")
    assert (
        len(
            [
                n
                for n in folder.read_weights(tmp_path / "model" / folder.WEIGHTS)
                if "embedding" in n or "output_w" in n
            ]
        )
        == 1
    )


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "model")
    with pytest.raises(KotyaError, match="something already"):
        write(tmp_path / "model")


def broken(path: Path, name: str) -> None:
    weights = path / folder.WEIGHTS
    if name == "no folder":
        path.rename(path.with_name("elsewhere"))
    elif name == "no config":
        (path / "config.json").unlink()
    elif name == "foreign config":
        (path / "config.json").write_text('{"model_type": "bert"}')
    elif name == "no weights":
        weights.unlink()
    elif name == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif name == "header cut":
        weights.write_bytes(weights.read_bytes()[:20])
    elif name == "empty weights":
        weights.write_bytes(b"")
    elif name == "other vocabulary":
        Vocabulary.learn(lambda: LINES, 270).save(path / "tokenizer.json")
    elif name == "no vocabulary":
        (path / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    "name",
    [
        "no folder",
        "no config",
        "foreign config",
        "no weights",
        "truncated",
        "header cut",
        "empty weights",
        "other vocabulary",
        "no vocabulary",
    ],
)
def test_a_broken_folder_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    write(tmp_path / "model")
    broken(tmp_path / "model", name)
    with pytest.raises(KotyaError) as caught:
        folder.load(tmp_path / "model")
    assert str(tmp_path / "model") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), -float("nan")])
def test_a_weight_that_is_no_number_is_said(tmp_path: Path, value: float) -> None:
    model = write(tmp_path / "model")
    tensors = folder.weights(model)
    tensors["decoder.layers.0.feed_forward.outer.weight"][3, 5] = value
    folder.save_weights(tmp_path / "model" / folder.WEIGHTS, tensors)
    with pytest.raises(
        Fault, match=r"model\.safetensors: the weight decoder\.layers\.0\.feed_forward\.outer\.weight is not"
    ):
        folder.load(tmp_path / "model")


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "model")
    for name in ("cuda:99", "warp", "meta", "mkldnn", "hpu", "privateuseone", "cpu:3", "CPU", ""):
        with pytest.raises(KotyaError, match=f"there is no device '{name}' here; there is cpu"):
            folder.load(tmp_path / "model", device=name)


def test_the_device_is_a_gpu_where_there_is_one_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOTYA_DEVICE", "warp")
    with pytest.raises(KotyaError, match=r"there is no device 'warp' here.*; KOTYA_DEVICE names it"):
        folder.find_device("auto")
    assert folder.find_device("cpu").type == "cpu"
    for said in (None, "auto"):
        monkeypatch.delenv("KOTYA_DEVICE") if said is None else monkeypatch.setenv("KOTYA_DEVICE", said)
        assert folder.find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_gpu_that_does_not_compute_says_how_to_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOTYA_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no kernel")))
    with pytest.raises(KotyaError, match="'cuda' does not compute: no kernel; --device cpu goes without it"):
        folder.find_device("auto")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    model = write(tmp_path / "model")
    path = tmp_path / "model" / folder.WEIGHTS
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(Fault, match=f"{folder.WEIGHTS}: could not be written"):
            folder.save_weights(path, folder.weights(model))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir() if "partial" in p.name] == []
