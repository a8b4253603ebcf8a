"""LoRA and DoRA by their formulas."""

import math

import torch
from torch import nn

from kotya.adapt.attach import attach, detach, own
from kotya.adapt.place import AdaptedLinear
from tiny_adapters import config, shaken


def test_the_formulas_of_lora_and_dora_in_float64() -> None:
    torch.manual_seed(0)
    base = nn.Linear(6, 5).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    for settings in ({}, {"scaling": "rank-stabilised"}, {"dora": True}):
        holder = nn.ModuleDict({"layer": base})
        chosen = config(kind="lora", rank=3, alpha=7.0, targets=["layer"], **settings)
        attach(holder, chosen)
        place = holder["layer"]
        assert isinstance(place, AdaptedLinear)
        holder.double()
        shaken(own(holder))
        part = place.parts["adapter"]
        scale = 7.0 / (math.sqrt(3) if "scaling" in settings else 3)
        weight = base.weight + scale * part.up @ part.down
        if "dora" in settings:
            weight = part.length[:, None] * weight / weight.norm(dim=1, keepdim=True)
        expected = x @ weight.T + base.bias
        assert torch.allclose(place(x), expected, atol=1e-12)
        assert torch.allclose(place.weight, weight, atol=1e-12)
        detach(holder)


def test_dora_learns_a_row_of_zeros() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    with torch.no_grad():
        layer.weight[2] = 0
    holder, x = nn.ModuleDict({"layer": layer}), torch.randn(4, 6)
    expected, aim = layer(x).detach(), torch.randn(4, 5)
    attach(holder, config(kind="lora", rank=2, targets=["layer"], dora=True))
    mine = own(holder)
    torch.testing.assert_close(holder["layer"](x), expected)
    optimizer = torch.optim.Adam(mine.values(), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (holder["layer"](x) - aim)[:, 2].square().mean()
        loss.backward()
        assert all(one.grad.isfinite().all() for one in mine.values())
        losses.append(float(loss.detach()))
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_dora_has_no_gradient_through_the_norm() -> None:
    torch.manual_seed(0)
    holder = nn.ModuleDict({"layer": nn.Linear(6, 5, bias=False)})
    attach(holder, config(kind="lora", rank=2, targets=["layer"], dora=True))
    shaken(own(holder))
    part = holder["layer"].parts["adapter"]
    x = torch.randn(4, 6)
    holder["layer"](x).sum().backward()
    found = part.up.grad.clone()
    # the norm as a constant: the gradient of Σ y by B, written out
    v = holder["layer"].base.weight + part.scale * part.up @ part.down
    factor = (part.length / v.norm(dim=1)).detach()
    expected = part.scale * factor[:, None] * (x.sum(0) @ part.down.T)[None, :]
    assert torch.allclose(found, expected, atol=1e-5)
