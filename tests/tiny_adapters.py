"""Small models of every kind, and adapters for them."""

from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from kotya.adapt.attach import AdaptConfig
from kotya.attention.packed import Packing
from kotya.models.bert import BertConfig
from kotya.models.composed import ComposedConfig
from kotya.models.heads import SequenceModel
from kotya.models.lm import LanguageModelConfig
from kotya.models.seq2seq import Seq2Seq
from kotya.models.transformer import TransformerConfig

PIECES = 12
RNN = {"kind": "rnn", "size": 16, "embedding": 16}


def composed(encoder: dict[str, Any], decoder: dict[str, Any]) -> nn.Module:
    settings = {"kind": "seq2seq", "encoder": encoder, "decoder": decoder, "dropout": 0.0}
    return ComposedConfig.model_validate(settings).build(PIECES, PIECES)


def recurrent(kind: str, cell: str, **more: Any) -> nn.Module:
    encoder = {**RNN, "cell": cell, "bidirectional": kind == "bahdanau"}
    return composed(encoder, {"kind": kind, "cell": cell, "size": 16, "embedding": 16, **more})


BLOCK: dict[str, Any] = {"size": 16, "heads": 2, "feed_forward": 32, "dropout": 0.0}
MODELS: dict[str, Any] = {
    "rnn tanh": lambda: recurrent("rnn", "tanh"),
    "rnn gru": lambda: recurrent("rnn", "gru"),
    "rnn lstm": lambda: recurrent("rnn", "lstm"),
    "luong": lambda: recurrent("luong", "lstm", input_feeding=True),
    "bahdanau": lambda: recurrent("bahdanau", "gru", readout=16),
    "cnn": lambda: composed(
        {"kind": "cnn", "size": 16, "embedding": 16, "layers": 2},
        {"kind": "cnn", "size": 16, "embedding": 16, "layers": 2},
    ),
    "transformer": lambda: TransformerConfig(
        kind="transformer", encoder_layers=1, decoder_layers=1, **BLOCK
    ).build(PIECES, PIECES),
    "bert": lambda: SequenceModel(BertConfig(layers=2, attention_dropout=0.0, **BLOCK).build(PIECES), 3),
    "lm": lambda: LanguageModelConfig(kind="lm", layers=2, **BLOCK).build(PIECES),
}
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "rank": 4},
    "rslora": {"kind": "lora", "rank": 4, "scaling": "rank-stabilised"},
    "dora": {"kind": "lora", "rank": 4, "dora": True},
    "houlsby": {"kind": "houlsby", "size": 8},
    "pfeiffer": {"kind": "pfeiffer", "size": 8},
    "parallel": {"kind": "parallel", "size": 8},
}


def config(**settings: Any) -> Any:
    return TypeAdapter(AdaptConfig).validate_python(settings)


def outputs(model: nn.Module, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    if isinstance(model, Seq2Seq):
        source = torch.randint(PIECES, (3, 7), generator=draw)
        target = torch.randint(PIECES, (3, 5), generator=draw)
        return torch.as_tensor(model.decoder.output(model(source, torch.tensor([7, 4, 2]), target)))
    ids = torch.randint(PIECES, (11,), generator=draw)
    packing = Packing.of([3, 3, 5], torch.device("cpu"))
    hidden = model(ids, packing)
    return torch.as_tensor(hidden if isinstance(model, SequenceModel) else model.decoder.output(hidden))


def built(kind: str) -> nn.Module:
    torch.manual_seed(3)
    model: nn.Module = MODELS[kind]()
    return model.eval()


@torch.no_grad()
def shaken(parameters: dict[str, nn.Parameter], seed: int = 5) -> None:
    """Adapters that are not at their start any more."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in parameters.values():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))


def distance(found: Tensor, expected: Tensor) -> float:
    """As a share of what is expected."""
    return float(((found - expected).norm() / expected.norm()).detach())
