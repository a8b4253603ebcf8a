"""Every score is the lecture's formula, written plainly in float64; a person's own is held to the contract."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kotya.attention.custom import build_score, own_code
from kotya.errors import KotyaError

ROWS, QUERIES, SOURCE, SIZE, KEYS = 2, 3, 5, 4, 6


def formula(name: str, score: nn.Module, h: Tensor, s: Tensor) -> Tensor:
    """One query and one key."""
    weights = {key: parameter.detach() for key, parameter in score.named_parameters()}
    if name == "dot":
        return h @ s
    if name == "scaled-dot":
        return h @ s / math.sqrt(len(h))
    if name == "bilinear":
        return h @ weights["key.weight"] @ s
    first = torch.cat([weights["query.weight"], weights["key.weight"]], dim=1)
    return weights["outer"] @ torch.tanh(first @ torch.cat([h, s]))


@pytest.mark.parametrize("name", ["dot", "scaled-dot", "bilinear", "mlp"])
def test_a_score_is_its_formula(name: str) -> None:
    torch.manual_seed(1)
    keys = SIZE if "dot" in name else KEYS
    score = build_score(name, SIZE, keys).double()
    query = torch.randn(ROWS, QUERIES, SIZE, dtype=torch.double)
    source = torch.randn(ROWS, SOURCE, keys, dtype=torch.double)
    scores = score.score(query, score.prepare(source))
    for row in range(ROWS):
        for t in range(QUERIES):
            for k in range(SOURCE):
                torch.testing.assert_close(
                    scores[row, t, k], formula(name, score, query[row, t], source[row, k])
                )


def test_nothing_of_the_keys_stays_on_the_module() -> None:
    score = build_score("mlp", SIZE, KEYS)
    before = set(vars(score)), set(score.state_dict())
    score.score(torch.randn(1, 1, SIZE), score.prepare(torch.randn(1, 2, KEYS)))
    assert (set(vars(score)), set(score.state_dict())) == before


@pytest.mark.parametrize("name", ["dot", "scaled-dot"])
def test_a_dot_product_needs_one_size(name: str) -> None:
    with pytest.raises(KotyaError, match="bilinear"):
        build_score(name, 4, 6)


OWN = """
import torch
from torch import nn

class Good(nn.Module):
    def __init__(self, query_size, key_size):
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(key_size, query_size))
    def prepare(self, keys):
        return keys @ self.matrix
    def score(self, query, prepared):
        return -(query[:, :, None] - prepared[:, None]).square().sum(-1)

class NoPrepare(nn.Module):
    def __init__(self, query_size, key_size):
        super().__init__()
    def score(self, query, prepared):
        return query @ prepared.transpose(1, 2)

class NoScore(nn.Module):
    def __init__(self, query_size, key_size):
        super().__init__()
    def prepare(self, keys):
        return keys

class OneSize(nn.Module):
    def __init__(self, size):
        super().__init__()
    prepare = score = lambda *x: x

class WrongShape(Good):
    def score(self, query, prepared):
        return super().score(query, prepared).transpose(1, 2)

class Fails(Good):
    def prepare(self, keys):
        return keys.no_such_thing

NotAModule = object
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "own_scores.py").write_text(OWN)
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("own_scores", None)


@pytest.mark.usefixtures("own")
def test_a_score_of_one_s_own_is_loaded_only_if_allowed() -> None:
    with pytest.raises(KotyaError, match="--allow-code"):
        build_score("own_scores.Good", SIZE, KEYS)
    assert "own_scores" not in sys.modules
    with own_code(True):
        score = build_score("own_scores.Good", SIZE, KEYS)
    assert score.score(torch.randn(2, 3, SIZE), score.prepare(torch.randn(2, 5, KEYS))).shape == (2, 3, 5)
    with pytest.raises(KotyaError, match="--allow-code"):
        build_score("own_scores.Good", SIZE, KEYS)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoPrepare", r"no method prepare\(keys\)"),
        ("NoScore", r"no method score\(query, prepared\)"),
        ("OneSize", r"__init__\(query_size, key_size\) failed"),
        ("WrongShape", r"\[rows, queries, source\].*gave \[2, 5, 3\]"),
        ("Fails", r"prepare\(keys\) failed with AttributeError"),
        ("NotAModule", "must be a class that derives from torch.nn.Module"),
        ("Nothing", "has no Nothing"),
    ],
)
def test_what_is_missing_of_the_contract_is_named(name: str, message: str) -> None:
    with own_code(True), pytest.raises(KotyaError, match=message):
        build_score(f"own_scores.{name}", SIZE, KEYS)
    with own_code(True), pytest.raises(KotyaError, match="cannot be imported"):
        build_score("no_such_package_of_mine.Score", SIZE, KEYS)
