"""Adapters made part of their model, for use and for good; and a base held in int8."""

import pytest
import torch
from torch import nn

from kotya.adapt.adapters import Bottleneck
from kotya.adapt.attach import absorb, attach, detach, own, settle
from kotya.adapt.held import Int8Linear
from kotya.adapt.lora import scaled
from kotya.adapt.place import merge, places, unmerge
from kotya.errors import KotyaError
from kotya.models.transformer import TransformerConfig
from tiny_adapters import ADAPTERS, BLOCK, MODELS, PIECES, built, config, distance, outputs, shaken


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
@pytest.mark.parametrize("model", MODELS)
def test_merged_is_unmerged_and_what_is_absorbed_needs_no_adapter(model: str, kind: str) -> None:
    base = built(model)
    names = [name for name, _ in base.named_parameters()]
    norms = any(isinstance(module, nn.LayerNorm) for module in base.modules())
    attach(base, config(**ADAPTERS[kind], norms=norms))
    shaken(own(base))
    with torch.no_grad():
        apart = outputs(base)
        merge(base)
        assert torch.allclose(outputs(base), apart, atol=1e-5)
        kept = {name: one.clone() for name, one in own(base).items() if name.endswith(".up")}
        for name in kept:
            own(base)[name].zero_()  # what is merged has its own weight
        assert torch.allclose(outputs(base), apart, atol=1e-5)
        for name, one in kept.items():
            own(base)[name].copy_(one)
        unmerge(base)
        assert torch.equal(outputs(base), apart)
        absorb(base)
        assert torch.allclose(outputs(base), apart, atol=1e-5)
    assert sorted(name for name, _ in base.named_parameters()) == sorted(names)
    assert all(parameter.requires_grad for parameter in base.parameters())


def test_a_base_held_in_int8_is_near_and_gradients_pass_through_it() -> None:
    model = built("bert")
    with torch.no_grad():
        expected = outputs(model)
    exact = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    attach(model, config(kind="lora", rank=4, held="int8"))
    with torch.no_grad():
        assert 0 < distance(outputs(model), expected) < 0.02
    for name, place in places(model).items():
        assert isinstance(place.base, Int8Linear)
        error = (place.base.weight - exact[name].weight).abs()
        assert (error <= exact[name].weight.abs().amax(1, keepdim=True) / 254 + 1e-7).all()
    outputs(model).sum().backward()
    assert all(parameter.grad is not None for parameter in own(model).values())
    before = {name: type(module) for name, module in model.named_modules()}
    for undo in (detach, absorb):  # the weights that would have to stand there again are nowhere
        with pytest.raises(KotyaError, match=r"attention\.query: held in int8, .* load the base again"):
            undo(model)
    assert {name: type(module) for name, module in model.named_modules()} == before


def test_loras_add_up_with_weights() -> None:
    """Whatever their ranks come to: those of one layer may sum to more than it has rows."""
    model = built("bert")
    weights = {name: one.detach().clone() for name, one in model.named_parameters()}
    settings = [
        config(kind="lora", rank=15, alpha=3.0),
        config(kind="lora", rank=5, targets=["attention.key"]),
        config(kind="lora", rank=12, targets=["attention", "embedding"]),
    ]
    shares, stored = (0.7, -0.4, 0.25), []
    expected = {name: one.double() for name, one in weights.items()}
    for seed, (chosen, share) in enumerate(zip(settings, shares, strict=True)):
        attach(model, chosen)
        shaken(own(model), seed)
        stored.append({name: one.detach().clone() for name, one in own(model).items()})
        for name, tensor in stored[-1].items():
            if name.endswith(".up"):
                change = chosen.scale * tensor.double() @ stored[-1][f"{name[:-3]}.down"].double()
                weight = name.replace(".parts.adapter.up", ".weight")
                if ".parametrizations." in name:
                    weight, change = "encoder.embedding.tokens", change.T
                expected[weight] = expected[weight] + share * change
        detach(model)
    for chosen, tensors, share in zip(settings, stored, shares, strict=True):
        attach(model, chosen)
        with torch.no_grad():
            for name, tensor in scaled(chosen, tensors, share).items():
                own(model)[name].copy_(tensor)
        absorb(model)
    found = dict(model.named_parameters())
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.detach().double(), expected[name], atol=1e-5, rtol=1e-5)
    with pytest.raises(KotyaError, match="weights of their own"):
        scaled(settings[0], {**stored[0], "head.weight": torch.ones(1)}, 1.0)
    with pytest.raises(KotyaError, match="DoRA and trained norms do not"):
        scaled(config(kind="lora", dora=True), stored[0], 1.0)


@pytest.mark.parametrize("held", ["float32", "int8"])
@pytest.mark.parametrize("kind", ["lora", "dora", "houlsby"])
@pytest.mark.parametrize("model", MODELS)
def test_for_use_an_adapted_layer_is_one_that_does_the_same_and_is_no_larger(
    model: str, kind: str, held: str
) -> None:
    base = built(model)
    with torch.no_grad():
        outputs(base)  # the table of positions is made
    size = sum(one.numel() for one in (*base.parameters(), *base.buffers()))
    attach(base, config(**ADAPTERS[kind], held=held))
    shaken(own(base))
    with torch.no_grad():
        apart = outputs(base)
        settle(base)
        assert torch.allclose(outputs(base), apart, atol=1e-5)
    left = places(base).values()
    assert all(isinstance(part, Bottleneck) for place in left for part in place.parts.values())
    if kind != "houlsby":
        assert not left
        numbers = (*base.parameters(), *base.buffers())
        scales = sum(len(one.scale) for one in base.modules() if isinstance(one, Int8Linear))
        assert sum(one.numel() for one in numbers) == size + scales


def test_held_in_int8_is_every_layer_that_is_frozen() -> None:
    model = built("bert")
    layers = {name for name, one in model.named_modules() if isinstance(one, nn.Linear)}
    fresh = [name for name, _ in model.named_parameters() if name.startswith("head.")]
    attach(model, config(kind="lora", held="int8"), fresh=fresh)
    held = {name.removesuffix(".base") for name, one in model.named_modules() if isinstance(one, Int8Linear)}
    assert len(held) > 10
    assert held == layers - {"head"}


@pytest.mark.parametrize("share", ["all", "output"])
def test_an_embedding_that_is_the_outputs_matrix_too_is_not_absorbed(share: str) -> None:
    settings = TransformerConfig(kind="transformer", encoder_layers=1, decoder_layers=1, share=share, **BLOCK)
    tied = settings.build(PIECES, PIECES).eval()
    attach(tied, config(kind="lora", rank=2, targets=["embedding"]))
    with pytest.raises(KotyaError, match=r"embedding: an embedding whose matrix is also that of a layer"):
        absorb(tied)


def test_where_adapters_are_merged_or_several_unrouted_nothing_is_guessed() -> None:
    model = built("bert")
    attach(model, config(kind="lora"), name="a")
    merge(model)
    with pytest.raises(KotyaError, match="unmerge comes before"):
        attach(model, config(kind="lora"), name="b")
    unmerge(model)
    attach(model, config(kind="lora"), name="b")
    with pytest.raises(KotyaError, match="2 adapters stand at one place"):
        outputs(model)
