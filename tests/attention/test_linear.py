"""Linear attention against its formula with all products written out, and FAVOR+ against softmax."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kotya.attention import linear
from kotya.attention.features import Elu, Favor, FeatureMap, Relu, orthogonal
from kotya.attention.forms import Linear
from kotya.attention.linear import LinearCache, attend_linear
from kotya.attention.linformer import LengthProjection
from kotya.errors import KotyaError

MAPS = {"elu": lambda: Elu(8), "relu": lambda: Relu(8), "favor": lambda: Favor(8, 24)}


@pytest.fixture(params=MAPS)
def features(request: pytest.FixtureRequest) -> FeatureMap:
    torch.manual_seed(1)
    made: FeatureMap = MAPS[request.param]()
    return made


def tensors(queries: int, keys: int, rows: int = 2) -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randn(rows, n, 3, 8).requires_grad_() for n in (queries, keys, keys)]


def similarities(query: Tensor, key: Tensor, features: FeatureMap, mask: Tensor) -> Tensor:
    """φ(q)ᵀφ(k) in float64, up to a factor of each query; FAVOR+'s from their logarithms, which have any size."""
    q, k = (x.double().transpose(1, 2) for x in (query, key))
    if isinstance(features, Favor):
        q, k = (x * x.shape[-1] ** -0.25 for x in (q, k))
        omega = torch.cat([features.omega, -features.omega]).double().T
        by_query, by_key = q @ omega, k @ omega - k.square().sum(-1, keepdim=True) / 2
        logs = (by_query[:, :, :, None] + by_key[:, :, None]).logsumexp(-1)
        logs = logs.masked_fill(mask == 0, -math.inf)
        return (logs - logs.detach().amax(-1, keepdim=True)).exp()
    phi = F.relu if isinstance(features, Relu) else lambda x: torch.where(x > 0, x + 1, x.exp())
    return phi(q) @ phi(k).transpose(2, 3) * mask


def written_out(
    query: Tensor, key: Tensor, value: Tensor, features: FeatureMap, mask: Tensor | None = None
) -> Tensor:
    """Σ_j φ(q)ᵀφ(k_j) v_j / Σ_j φ(q)ᵀφ(k_j), in float64."""
    mask = torch.ones(query.shape[1], key.shape[1]) if mask is None else mask
    products = similarities(query, key, features, mask)
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
def test_chunks_of_many_blocks_change_nothing(
    features: FeatureMap, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: a whole text at once, of more than two blocks and a piece."""
    inputs = tensors(300, 300)
    results = []
    for device in ("cpu", "gpu"):
        if device == "gpu":
            monkeypatch.setattr(linear, "_chunks", lambda x, *_, **__: [slice(0, x.shape[1])])
        output = attend_linear(*inputs, features, causal=causal, lengths=torch.tensor([300, 170]))
        results.append((output, *torch.autograd.grad(output.sin().sum(), inputs)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("norms", [(1, 1), (6, 6), (8, 0.5), (0.5, 8), (12, 12)], ids=str)
@pytest.mark.parametrize("role", ["encoder", "causal", "cross", "steps"])
def test_norms_of_any_size(norms: tuple[float, float], role: str) -> None:
    """exp leaves float32's range at 88. From the first key to the last their deviation goes from one to the other."""
    torch.manual_seed(3)
    features, keys = Favor(16, 32), 150 if role == "cross" else 130
    inputs = [torch.randn(2, n, 2, 16) for n in (130, keys, keys)]
    inputs[0] *= max(norms)
    inputs[1] *= torch.linspace(*norms, keys)[:, None, None]
    lengths = torch.tensor([keys, keys - 60])
    mask = (torch.arange(keys) < lengths[:, None])[:, None, None].double()
    if role in ("causal", "steps"):
        mask = mask * torch.ones(keys, keys).tril()
    expected = written_out(*inputs, features, mask)
    if role == "steps":
        cache = LinearCache.empty(2, 2, 16, features, expected.device)
        parts = [x.split([1, 1, 90, 1, 37], dim=1) for x in inputs]
        output = torch.cat([cache.extend(*part, features) for part in zip(*parts, strict=True)], dim=1)
        torch.testing.assert_close(output[1, :70], expected[1, :70], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(output[0], expected[0], atol=1e-4, rtol=1e-4)
        return
    inputs = [x.requires_grad_() for x in inputs]
    output = attend_linear(*inputs, features, causal=role == "causal", lengths=lengths)
    expected = written_out(*inputs, features, mask)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
    gradient = torch.linspace(-1, 1, output.numel()).view_as(output)
    for mine, theirs in zip(
        torch.autograd.grad(output, inputs, gradient),
        torch.autograd.grad(expected, inputs, gradient),
        strict=True,
    ):
        assert float((mine - theirs).norm()) < 1e-4 * float(theirs.norm())


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm", [1.0, 51.0, 300.0])
def test_one_key_has_all_the_weight(norm: float, causal: bool) -> None:
    key = F.normalize(torch.randn(1, 1, 2, 64), dim=-1) * norm
    value = torch.randn(1, 1, 2, 64, requires_grad=True)
    for query in (key, -key):
        output = attend_linear(query, key, value, Favor(64, 256), causal=causal)
        torch.testing.assert_close(output, value, atol=1e-5, rtol=1e-5)
        (gradient,) = torch.autograd.grad(output.sum(), value)
        torch.testing.assert_close(gradient, torch.ones_like(gradient), atol=1e-5, rtol=1e-5)


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


def test_those_of_a_frozen_base_are_never_drawn_anew() -> None:
    features = Favor(8, 16, redraw=1)
    features.frozen, first = True, features.omega.clone()
    features.renew()
    assert torch.equal(features.omega, first)


@pytest.mark.parametrize("causal", [False, True])
def test_elu_and_one_far_below_zero(causal: bool) -> None:
    """There it is an exponential, which 1 added to its difference from 1 would round away."""
    inputs = tensors(70, 70)
    query, key, value = inputs
    moved = [query - 6, key - 12, value]
    mask = torch.ones(70, 70, dtype=torch.float64)
    output = attend_linear(*moved, Elu(8), causal=causal)
    check_equal(output, written_out(*moved, Elu(8), mask.tril() if causal else mask), inputs)


def test_chunks_that_are_cut_keep_no_more() -> None:
    """Long keys cut causal chunks of FAVOR+, and what is kept for the gradients is the sums before whole ones."""
    features = Favor(8, 64)
    kept = []
    for norm in (1.0, 12.0):
        query, key, value = tensors(600, 600)
        taken: list[int] = []

        def keep(x: Tensor, taken: list[int] = taken) -> Tensor:
            taken.append(x.numel())
            return x

        parts = linear._causal_parts(
            features, key * norm, None, torch.full((2, 3, 64), torch.finfo(torch.float32).min)
        )
        assert (len(list(parts)) > 10) == (norm > 1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            attend_linear(query, key * norm, value, features, causal=True)
        kept.append(sum(taken))
    assert kept[0] == kept[1]


@pytest.mark.parametrize("causal", [False, True])
def test_a_redraw_leaves_the_gradients_of_passes_before_it(causal: bool) -> None:
    form = Linear(Favor(8, 16, redraw=2))
    inputs, lengths = tensors(9, 9), torch.tensor([9, 7])
    first = form.rows(*inputs, lengths, causal=causal)
    expected = torch.autograd.grad(first.sum(), inputs, retain_graph=True)
    form.rows(*inputs, lengths, causal=causal)
    for mine, theirs in zip(torch.autograd.grad(first.sum(), inputs), expected, strict=True):
        assert torch.equal(mine, theirs)


def test_linformer_mixes_positions_of_each_text_alone() -> None:
    projection = LengthProjection(50, 6)
    key, value = torch.randn(2, 40, 3, 8), torch.randn(2, 40, 3, 8)
    short, long = projection(key, value, torch.tensor([25, 40]))
    torch.testing.assert_close(short[0, :, 1], projection.keys[:, :25] @ key[0, :25, 1])
    torch.testing.assert_close(long[1, :, 2], projection.values[:, :40] @ value[1, :, 2])
    alone, _ = projection(key[:1, :25], value[:1, :25])
    torch.testing.assert_close(alone[0], short[0])


def test_linformer_reads_no_text_longer_than_its_projections() -> None:
    key = torch.randn(1, 51, 3, 8)
    with pytest.raises(KotyaError, match=r"a text of 51 pieces.* 50 at most.*max_length"):
        LengthProjection(50, 6)(key, key)
