"""Linear attention against its formula with all products written out, and FAVOR+ against softmax."""

import math

import pytest
import torch
from torch import Tensor

from kotya.attention.linear import (
    Elu,
    Favor,
    FeatureMap,
    LengthProjection,
    LinearCache,
    Relu,
    attend_linear,
    orthogonal,
)

MAPS = {"elu": lambda: Elu(8), "relu": lambda: Relu(8), "favor": lambda: Favor(8, 24)}


@pytest.fixture(params=MAPS)
def features(request: pytest.FixtureRequest) -> FeatureMap:
    torch.manual_seed(1)
    made: FeatureMap = MAPS[request.param]()
    return made


def tensors(queries: int, keys: int, rows: int = 2) -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randn(rows, n, 3, 8).requires_grad_() for n in (queries, keys, keys)]


def written_out(
    query: Tensor, key: Tensor, value: Tensor, features: FeatureMap, mask: Tensor | None = None
) -> Tensor:
    """Σ_j φ(q)ᵀφ(k_j) v_j / Σ_j φ(q)ᵀφ(k_j), in float64 behind the features."""
    products = torch.einsum("bqhr,bkhr->bhqk", features.queries(query).double(), features.keys(key).double())
    if mask is not None:
        products = products * mask
    below = products.sum(-1, keepdim=True)
    weights = products / torch.where(below > 0, below, 1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, value.double()).float()


def check_equal(output: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(output, expected, atol=3e-5, rtol=1e-4)
    gradient = torch.linspace(-1, 1, output.numel()).view_as(output)
    for mine, theirs in zip(
        torch.autograd.grad(output, inputs, gradient),
        torch.autograd.grad(expected, inputs, gradient),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=3e-5, rtol=1e-3)


@pytest.mark.parametrize("role", ["encoder", "causal", "cross"])
def test_the_formula(features: FeatureMap, role: str) -> None:
    queries = 300
    keys = 150 if role == "cross" else queries
    inputs, lengths = tensors(queries, keys), torch.tensor([keys, keys - 37])
    mask = (torch.arange(keys) < lengths[:, None])[:, None, None].double()
    if role == "causal":
        mask = mask * torch.ones(queries, keys).tril()
    output = attend_linear(*inputs, features, causal=role == "causal", lengths=lengths)
    check_equal(output, written_out(*inputs, features, mask), inputs)


@pytest.mark.parametrize("causal", [False, True])
def test_neither_neighbours_nor_padding_nor_the_future_matter(features: FeatureMap, causal: bool) -> None:
    query, key, value = (x.detach() for x in tensors(200, 200))
    lengths = torch.tensor([200, 120])
    whole = attend_linear(query, key, value, features, causal=causal, lengths=lengths)
    with torch.no_grad():
        key[0] *= 3  # a neighbour
        value[1, 120:], key[1, 120:] = 9.0, 4.0  # padding
    again = attend_linear(query, key, value, features, causal=causal, lengths=lengths)
    torch.testing.assert_close(again[1, :120], whole[1, :120], atol=1e-6, rtol=1e-6)
    if causal:
        key[1, 60:] += 1.0
        again = attend_linear(query, key, value, features, causal=True, lengths=lengths)
        torch.testing.assert_close(again[1, :60], whole[1, :60], atol=1e-6, rtol=1e-6)


def test_decoding_keeps_sums_of_one_size(features: FeatureMap) -> None:
    query, key, value = (x.detach() for x in tensors(150, 150))
    whole = attend_linear(query, key, value, features, causal=True)
    cache, seen, start = LinearCache.empty(2, 3, 8, features, query.device), [], 0
    for n in (1, 1, 40, 1, 107):
        part = slice(start, start + n)
        seen.append(cache.extend(query[:, part], key[:, part], value[:, part], features))
        assert cache.sums.shape == (2, 3, features.count, 9)
        start += n
    torch.testing.assert_close(torch.cat(seen, dim=1), whole, atol=3e-5, rtol=1e-4)
    swapped = cache.select(torch.tensor([1, 0, 1]), 150).join(cache)
    torch.testing.assert_close(
        swapped.read(query[[1, 0, 1, 0, 1]], features)[3:], cache.read(query, features)
    )


def test_what_matches_no_key_is_zero() -> None:
    query, key, value = -torch.ones(1, 3, 1, 8), torch.ones(1, 3, 1, 8), torch.ones(1, 3, 1, 8)
    query.requires_grad_()
    output = attend_linear(query, key, value, Relu(8))
    assert not output.any()
    assert not torch.autograd.grad(output.sum(), query)[0].any()


@pytest.mark.parametrize(("queries", "keys"), [(0, 0), (1, 1), (3, 0), (0, 3)])
@pytest.mark.parametrize("causal", [False, True])
def test_nothing_and_one(features: FeatureMap, queries: int, keys: int, causal: bool) -> None:
    if causal and queries != keys:
        pytest.skip("a causal text reads itself")
    inputs = tensors(queries, keys)
    output = attend_linear(*inputs, features, causal=causal)
    assert output.shape == inputs[0].shape
    if queries == keys == 1 and not isinstance(features, Relu):
        torch.testing.assert_close(output, inputs[2])
    assert not torch.autograd.grad(output.sum(), inputs)[0].abs().gt(1e-5).any()


def test_the_error_against_softmax_falls_with_the_features() -> None:
    """Its variance falls as 1/r: sixteen times the features, about a quarter of the error."""
    torch.manual_seed(5)
    query, key, value = (torch.randn(1, 64, 2, 16) * 0.4 for _ in range(3))
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / 4
    exact = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)
    errors = []
    for count in (16, 256, 4096):
        draws = [attend_linear(query, key, value, Favor(16, count)) - exact for _ in range(8)]
        errors.append(float(torch.stack(draws).square().mean().sqrt()))
    assert errors[1] < errors[0] / 2.5
    assert errors[2] < errors[1] / 2.5


def test_random_features_are_orthogonal_and_as_long_as_normal_vectors() -> None:
    torch.manual_seed(6)
    omega = orthogonal(20, 8)
    for block in omega.split(8):
        products = torch.nn.functional.normalize(block) @ torch.nn.functional.normalize(block).T
        torch.testing.assert_close(products, torch.eye(len(block)), atol=1e-5, rtol=0)
    squares = torch.stack([orthogonal(8, 8) for _ in range(300)]).square().sum(-1)
    assert abs(float(squares.mean()) - 8) < 5 * math.sqrt(16 / squares.numel())


def test_redrawing_is_by_training_passes_and_saved() -> None:
    features = Favor(8, 16, redraw=3)
    first = features.omega.clone()
    for _ in range(2):
        features.renew()
    assert torch.equal(features.omega, first)
    saved = {name: x.clone() for name, x in features.state_dict().items()}
    features.renew()
    assert not torch.equal(features.omega, first)
    features.load_state_dict(saved)
    assert torch.equal(features.omega, first)
    features.renew()
    assert not torch.equal(features.omega, first)


def test_linformer_mixes_positions_of_each_text_alone() -> None:
    projection = LengthProjection(50, 6)
    key, value = torch.randn(2, 40, 3, 8), torch.randn(2, 40, 3, 8)
    short, long = projection(key, value, torch.tensor([25, 40]))
    torch.testing.assert_close(short[0, :, 1], projection.keys[:, :25] @ key[0, :25, 1])
    torch.testing.assert_close(long[1, :, 2], projection.values[:, :40] @ value[1, :, 2])
    alone, _ = projection(key[:1, :25], value[:1, :25])
    torch.testing.assert_close(alone[0], short[0])
