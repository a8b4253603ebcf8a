"""Presets by name, the checks of a pair, and a composed model through packing and the model folder."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kotya import folder
from kotya.inference.attention import attend
from kotya.models.composed import PRESETS, ComposedConfig
from kotya.models.packing import PackedLinear, pack
from kotya.tasks.translation_recipe import TranslationFolder
from kotya.text.vocabulary import Vocabulary

RNN: dict[str, Any] = {"kind": "rnn", "size": 8, "embedding": 6}
CNN: dict[str, Any] = {"kind": "cnn", "size": 8, "embedding": 6, "layers": 2}
DECODERS: dict[str, dict[str, Any]] = {
    "rnn": {**RNN, "cell": "lstm", "layers": 2, "feed_summary": True},
    "luong": {**RNN, "kind": "luong", "cell": "gru", "score": "mlp"},
    "feeding": {**RNN, "kind": "luong", "attention": "local-p", "input_feeding": True},
    "bahdanau": {**RNN, "kind": "bahdanau"},
    "transformer": {"kind": "transformer", "size": 8, "heads": 2, "feed_forward": 8, "layers": 1},
    "cnn": {**CNN, "score": "mlp"},
    "cnn-bilinear": {**CNN, "score": "bilinear"},
    "cnn-fixed": {**CNN, "attention": False},
}

LAYERS_THAT_LOOK = {"rnn": 0, "cnn": 2, "cnn-bilinear": 2, "cnn-fixed": 0}
"""One in the other decoders."""


def config(decoder: str) -> ComposedConfig:
    return ComposedConfig.model_validate(
        {"kind": "seq2seq", "encoder": {**RNN, "bidirectional": True}, "decoder": DECODERS[decoder]}
    )


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_reads_back(name: str) -> None:
    preset = PRESETS[name]
    assert type(preset).model_validate_json(preset.model_dump_json()) == preset
    with torch.device("meta"):
        model = preset.build(100, 100)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_sharing_is_one_matrix_and_needs_one_width() -> None:
    options = {"kind": "seq2seq", "encoder": RNN, "decoder": {**RNN, "size": 6}}
    model = ComposedConfig.model_validate({**options, "share": "all"}).build(9, 9)
    weights = [
        model.encoder.embedding.weight,
        model.decoder.embedding.weight,
        model.decoder.output_weights()[0],
    ]
    assert weights[0] is weights[1] is weights[2]
    assert ComposedConfig.model_validate(options).build(9, 9).decoder.output_weights()[0] is not weights[0]
    for bad in ({"encoder": {**RNN, "embedding": 5}, "share": "all"}, {"decoder": RNN, "share": "output"}):
        with pytest.raises(ValueError, match="share"):
            ComposedConfig.model_validate(options | bad)


@pytest.mark.parametrize("decoder", DECODERS)
@torch.inference_mode()
def test_a_packed_model_computes_what_it_did(decoder: str) -> None:
    torch.manual_seed(1)
    model = config(decoder).build(20, 20).eval()
    source, lengths, targets = torch.randint(20, (3, 5)), torch.tensor([5, 3, 1]), torch.randint(20, (3, 4))
    plain = model.decoder.output(model(source, lengths, targets))
    packed = pack(model)
    assert any(isinstance(module, PackedLinear) for module in packed.encoder.modules())
    assert not [module for module in packed.modules() if isinstance(module, torch.nn.Linear)]
    computed = packed.decoder.output(packed(source, lengths, targets))
    torch.testing.assert_close(computed, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_folder_holds_it_and_its_attention_can_be_looked_at(tmp_path: Path, decoder: str) -> None:
    torch.manual_seed(1)
    vocabulary = Vocabulary.learn(lambda: ["the cat sat on the mat", "a cat is a cat"] * 5, 290)
    stored = TranslationFolder(model=config(decoder), banned=[0])
    model = stored.model.build(len(vocabulary), len(vocabulary))
    path = tmp_path / "model"
    folder.create(
        path, config=stored, vocabularies=(vocabulary, vocabulary), recipe=None, tensors=folder.weights(model)
    )
    loaded = folder.load(path)
    source, lengths = torch.tensor([[5, 6, 3]]), torch.tensor([3])
    torch.testing.assert_close(model.eval()(source, lengths, source), loaded.model(source, lengths, source))
    seen = attend(loaded, "a cat", "the mat")
    assert not seen.encoder
    assert len(seen.cross) == LAYERS_THAT_LOOK.get(decoder, 1)
    for weights in seen.cross:
        assert weights.shape[1:] == (len(seen.outputs), len(seen.source))
