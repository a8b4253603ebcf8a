"""A model whose probabilities are NaN: every search says so and names the line, and none goes on for ever."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kotya.errors import Fault
from kotya.inference.scoring import score_pairs
from kotya.search.batch import Batch
from kotya.search.beam import Beam
from kotya.search.config import SamplingConfig, SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.greedy import Greedy
from kotya.search.hypothesis import Roles
from kotya.search.sampling import Sampling
from toy_decoder import BEGIN, END, PIECES, ROLES, answers, toy

GOOD, BAD = [3, 4], [5, 5, 2]
"""Sources; `broken` knows the second one by its hash."""

SEARCHES: dict[str, Callable[[Ensemble], Batch]] = {
    "greedy": lambda model: Greedy(model, ROLES, SearchConfig(beam=1), scores=False),
    "greedy with scores": lambda model: Greedy(model, ROLES, SearchConfig(beam=1), scores=True),
    "beam of 1": lambda model: Beam(model, ROLES, SearchConfig(beam=1)),
    "beam": lambda model: Beam(model, ROLES, SearchConfig(beam=4)),
    "first beam": lambda model: Beam(model, ROLES, SearchConfig(beam=3, stop="first-beam")),
    "samples": lambda model: Sampling(model, ROLES, SearchConfig(), SamplingConfig(samples=3)),
}


def broken(monkeypatch: pytest.MonkeyPatch, places: slice, value: float, step: int) -> Ensemble:
    """A toy whose logits in these places have that value for BAD, from some step on."""
    model = toy()
    decoder, whole = model.decoder, sum(i * piece for i, piece in enumerate([*BAD, END], start=1))
    intact = decoder._logits

    def logits(line: Any, history: Any) -> Any:
        found = intact(line, history).clone()
        steps = torch.zeros_like(history) if history.dim() else history
        for count, before in enumerate((0, 7, 49)):
            steps = torch.where(history > before, count, steps)
        found[(line == whole) & (steps >= step), places] = value
        return found

    monkeypatch.setattr(decoder, "_logits", logits)
    return Ensemble([model], END, "runs/broken")


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("places", [slice(0, PIECES), slice(2, 3), slice(END, END + 1)])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("step", [0, 1])
def test_every_search_names_the_line(
    monkeypatch: pytest.MonkeyPatch, name: str, places: slice, value: float, step: int
) -> None:
    model = broken(monkeypatch, places, value, step)
    assert len(answers(lambda: SEARCHES[name](model), [GOOD, GOOD])) == 2
    with pytest.raises(Fault, match=r"^runs/broken: what it predicts for line 2 is not a number"):
        answers(lambda: SEARCHES[name](model), [GOOD, BAD, GOOD])


@pytest.mark.parametrize("name", SEARCHES)
def test_so_does_a_line_whose_only_piece_is_its_end(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An empty line's end is forced."""
    model = toy()
    monkeypatch.setattr(model.decoder, "_logits", lambda line, _: torch.full((len(line), PIECES), torch.nan))
    with pytest.raises(Fault, match="line 1 is not a number"):
        answers(lambda: SEARCHES[name](Ensemble([model], END)), [[]])


def test_scoring_names_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = broken(monkeypatch, slice(0, PIECES), torch.nan, 0)
    found = score_pairs(model, ROLES, iter([(GOOD, [2]), (GOOD, []), (BAD, [2]), (GOOD, [3])]))
    next(found), next(found)
    with pytest.raises(Fault, match="line 3 is not a number"):
        next(found)


def test_a_line_with_no_output_at_all_is_said() -> None:
    nothing = Roles(BEGIN, END, tuple(range(PIECES)))
    with pytest.raises(Fault, match="every output for line 1 has probability 0"):
        answers(lambda: Beam(Ensemble([toy()], END), nothing, SearchConfig()), [GOOD])
