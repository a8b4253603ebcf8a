"""ConvS2S against its formulas, written as loops over positions in float64."""

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from kotya.models.cnn import GatedConvolution
from kotya.models.cnn_decoder import CNNDecoder
from kotya.models.cnn_encoder import CNNEncoder
from kotya.models.composed import ModelConfig
from kotya.models.seq2seq import Seq2Seq

HALF = math.sqrt(0.5)
CNN = {"kind": "cnn", "size": 6, "embedding": 4, "layers": 2}


def build(encoder: dict[str, Any], decoder: dict[str, Any]) -> Seq2Seq:
    torch.manual_seed(3)
    content = {"kind": "seq2seq", "encoder": CNN | encoder, "decoder": CNN | decoder, "dropout": 0.0}
    config: Any = TypeAdapter(ModelConfig).validate_python(content)
    model: Seq2Seq = config.build(9, 9).double().eval()
    for parameter in model.parameters():  # biases too
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def at(texts: list[Tensor], place: int) -> Tensor:
    """A vector of a text; zeros outside it."""
    return texts[place] if 0 <= place < len(texts) else torch.zeros_like(texts[0])


def gated(layer: GatedConvolution, x: list[Tensor], first: int) -> Tensor:
    """a · σ(b) of the inputs from `first` on: Σ_j W_j x_{first+j} + β."""
    size = len(x[0])
    total = layer.linear.bias.clone()
    for j in range(layer.kernel):
        total += layer.linear.weight[:, j * size : (j + 1) * size] @ at(x, first + j)
    a, b = total[:size], total[size:]
    return a / (1 + torch.exp(-b))


def embedded(embedding: Any, ids: list[int]) -> list[Tensor]:
    return [embedding.weight[token] + embedding.positions.weight[place] for place, token in enumerate(ids)]


def encoded(encoder: CNNEncoder, source: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """z and (z + e)√½."""
    e = embedded(encoder.embedding, source)
    x = [encoder.inner(one) for one in e]
    for layer in encoder.layers:
        assert isinstance(layer, GatedConvolution)
        x = [(gated(layer, x, place - layer.kernel // 2) + x[place]) * HALF for place in range(len(x))]
    z = [encoder.outer(one) for one in x]
    return z, [(one + other) * HALF for one, other in zip(z, e, strict=True)]


def decoded(decoder: CNNDecoder, target: list[int], z: list[Tensor], values: list[Tensor]) -> list[Tensor]:
    g = embedded(decoder.embedding, target)
    x = [decoder.inner(one) for one in g]
    for layer in decoder.layers:
        after = []
        for i in range(len(x)):
            h = gated(layer.convolution, x[: i + 1], i - layer.convolution.kernel + 1)  # type: ignore[union-attr, arg-type]
            d = (layer.query(h) + g[i]) * HALF  # type: ignore[operator]
            exponentials = [torch.exp(d @ key) for key in z]
            c = sum(w * value for w, value in zip(exponentials, values, strict=True)) / sum(exponentials)
            h = (layer.context(math.sqrt(len(z)) * c) + h) * HALF  # type: ignore[operator]
            after.append((h + x[i]) * HALF)
        x = after
    return [decoder.outer(one) for one in x]


@pytest.mark.parametrize(("before", "past"), [(3, 3), (5, 2), (1, 1)])
@torch.no_grad()
def test_the_formulas(before: int, past: int) -> None:
    model = build({"kernel": before}, {"kernel": past})
    assert isinstance(model.encoder, CNNEncoder)
    assert isinstance(model.decoder, CNNDecoder)
    sources, targets = [[2, 7, 5, 8, 1], [3, 4, 1]], [[0, 6, 6, 2], [0, 5, 3, 3]]
    batch = torch.tensor([sources[0], [*sources[1], 8, 8]])
    lengths = torch.tensor([5, 3])
    memory = model.encode(batch, lengths)
    hidden = model.decoder(torch.tensor(targets), memory)
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        z, values = encoded(model.encoder, source)
        torch.testing.assert_close(memory.keys[row, : len(source)], torch.stack(z))
        torch.testing.assert_close(memory.values[row, : len(source)], torch.stack(values))
        expected = torch.stack(decoded(model.decoder, target, z, values))
        torch.testing.assert_close(hidden[row], expected)


def test_variance_stays_from_layer_to_layer_at_the_start() -> None:
    """What section 3.5 sets the first weights for: with 20 layers the signal neither dies nor explodes."""
    torch.manual_seed(1)
    encoder = {"kind": "cnn", "size": 64, "embedding": 64, "layers": 20}
    content = {"kind": "seq2seq", "encoder": encoder, "decoder": encoder, "dropout": 0.0}
    config: Any = TypeAdapter(ModelConfig).validate_python(content)
    model = config.build(50, 50)
    memory = model.encode(torch.randint(50, (8, 30)), torch.full((8,), 30))
    assert 0.1 < float((memory.keys.std() / memory.values.std()).detach()) < 10
    assert 0.1 < float(memory.keys.std() / model.encoder.embedding.weight.std()) < 10


def test_a_kernel_without_a_middle_is_an_error() -> None:
    with pytest.raises(ValidationError, match="must be odd"):
        build({"kernel": 4}, {})
