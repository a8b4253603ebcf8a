"""Greedy search against the argmax, step by step."""

import pytest
import torch

from kotya.search.beam import Beam
from kotya.search.config import SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.greedy import Greedy
from toy_decoder import BEGIN, END, ROLES, answers, log_probability, one, toy

SOURCES = [[2 + (i * j) % 4 for j in range(1 + i % 6)] for i in range(30)]
CONFIG = SearchConfig(beam=1, max_length_extra=9)


def test_each_token_is_the_argmax() -> None:
    model = toy()
    for source, [found] in zip(
        SOURCES,
        answers(lambda: Greedy(Ensemble([model], END), ROLES, CONFIG, scores=True), SOURCES),
        strict=True,
    ):
        inputs = torch.tensor([[BEGIN, *found.tokens]])
        with torch.no_grad():
            logits = model(torch.tensor([[*source, END]]), torch.tensor([len(source) + 1]), inputs)[0]
        logits[:, BEGIN] = -torch.inf
        chosen = logits.argmax(-1).tolist()
        assert chosen[: len(found.tokens)] == found.tokens
        if found.finished:
            assert chosen[-1] == END
        assert found.log_probability == pytest.approx(
            log_probability([model], source, found.tokens), rel=1e-5
        )


def test_it_is_beam_search_with_a_beam_of_one_that_stops_at_the_first() -> None:
    model, config = toy(), CONFIG.model_copy(update={"stop": "first-beam"})
    greedy = answers(lambda: Greedy(Ensemble([model], END), ROLES, CONFIG, scores=False), SOURCES)
    beam = answers(lambda: Beam(Ensemble([model], END), ROLES, config), SOURCES)
    assert [found[0].tokens for found in greedy] == [found[0].tokens for found in beam]


def test_a_line_does_not_depend_on_its_neighbours() -> None:
    model = toy()

    def make() -> Greedy:
        return Greedy(Ensemble([model], END), ROLES, CONFIG, scores=True)

    alone = [one(make(), source) for source in SOURCES]
    for rows in (1, 4, 50):
        assert answers(make, SOURCES, rows=rows) == alone
    assert answers(make, SOURCES, rows=5, workers=2) == alone


def test_a_forced_prefix_is_begun_with() -> None:
    model = toy()
    [found] = one(Greedy(Ensemble([model], END), ROLES, CONFIG, scores=True), [3, 4], [5, 2])
    assert found.tokens[:2] == [5, 2]
    assert found.log_probability == pytest.approx(log_probability([model], [3, 4], found.tokens), rel=1e-5)
