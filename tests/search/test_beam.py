"""Beam search against all outputs of a toy, listed; its rules, one at a time; its tree."""

import math
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from kotya.search.beam import Beam
from kotya.search.config import SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.greedy import Greedy
from kotya.search.length import Average, Wu
from kotya.search.trace import LineTrace
from toy_decoder import END, ROLES, answers, every_output, log_probability, one, ranked, toy

SOURCES = [[2], [3, 4], [5, 2, 3], [4, 4, 4, 2], [3]]
CAP = 4


def wide(**options: object) -> SearchConfig:
    """A beam that holds every open hypothesis there can be."""
    settings = {"beam": 4**CAP, "max_length_ratio": 0, "max_length_extra": CAP, **options}
    return SearchConfig.model_validate(settings)


@pytest.mark.parametrize("normalization", ["average", "wu", "none"])
def test_a_wide_beam_finds_the_true_argmax(normalization: str) -> None:
    config = wide(normalization=normalization, length_penalty=0.8, nbest=3)
    model = toy()
    for source in SOURCES[:3]:
        best = ranked([model], source, every_output(CAP), config.penalty())[:3]
        found = one(Beam(Ensemble([model], END), ROLES, config), source)
        assert [hypothesis.tokens for hypothesis in found] == [tokens for _, tokens in best]
        assert [hypothesis.score for hypothesis in found] == pytest.approx(
            [score for score, _ in best], abs=1e-5
        )


def test_the_exact_rule_gives_what_searching_to_the_cap_gives() -> None:
    for seed in range(8):
        model = toy(seed, sharpness=3.0)
        config = SearchConfig(beam=3, nbest=2, stop="exact", max_length_extra=12, max_length_ratio=0)

        stopped = answers(partial(Beam, Ensemble([model], END), ROLES, config), SOURCES)
        patient = Beam(Ensemble([model], END), ROLES, config)
        patient.stop = lambda finished, best_open, length, cap: False  # type: ignore[assignment]
        assert stopped == answers(partial(lambda batch: batch, patient), SOURCES)


def test_the_other_rules_stop_earlier_and_never_score_higher() -> None:
    for seed in range(5):
        model = toy(seed)
        best = {}
        for stop in ("exact", "full-beam", "first-beam"):
            config = SearchConfig.model_validate({"beam": 3, "stop": stop, "max_length_extra": 10})
            found = answers(partial(Beam, Ensemble([model], END), ROLES, config), SOURCES)
            best[stop] = [hypotheses[0].score for hypotheses in found]
        for exact, full, first in zip(*best.values(), strict=True):
            assert exact >= full - 1e-6
            assert full >= first - 1e-6


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_a_line_does_not_depend_on_its_neighbours(beam: int) -> None:
    """Promise 1, with lines that come and go: any batch size, any order, any number of workers."""
    model = toy(sharpness=3.0)
    config = SearchConfig(beam=beam, max_length_extra=9)
    sources = [[2 + (i * j) % 4 for j in range(1 + i % 6)] for i in range(20)]

    def make() -> Beam:
        return Beam(Ensemble([model], END), ROLES, config)

    alone = [one(make(), source) for source in sources]
    for rows in (3, 64):
        assert answers(make, sources, rows=rows) == alone
    assert answers(make, sources, rows=4, workers=3) == alone
    assert answers(make, sources[::-1], rows=5) == alone[::-1]


def test_no_output_is_longer_than_its_own_cap_and_what_is_cut_off_ends() -> None:
    model = toy(sharpness=0.1)
    model.decoder.table.data[:, END] -= 30.0  # it never ends by itself
    config = SearchConfig(beam=3, max_length_ratio=1.5, max_length_extra=2)
    sources = [[2] * length for length in (1, 6, 3)]
    for make in (
        lambda: Beam(Ensemble([model], END), ROLES, config),
        lambda: Greedy(Ensemble([model], END), ROLES, config, scores=True),
    ):
        for source, [best, *_] in zip(sources, answers(make, sources), strict=True):
            assert len(best.tokens) + 1 == int(1.5 * len(source)) + 2
            assert not best.finished
            assert best.log_probability == pytest.approx(
                log_probability([model], source, best.tokens), rel=1e-5
            )


def test_an_empty_line_gives_an_empty_line() -> None:
    assert one(Beam(Ensemble([toy()], END), ROLES, SearchConfig()), [])[0].tokens == []


@pytest.mark.parametrize("prefix", [[3], [4, 2, 5]])
def test_a_forced_prefix_begins_every_hypothesis_and_counts(prefix: list[int]) -> None:
    model = toy()
    config = wide(nbest=4)
    found = one(Beam(Ensemble([model], END), ROLES, config), [3, 4], prefix)
    begun = [tokens for tokens in every_output(CAP) if tokens[: len(prefix)] == prefix]
    best = ranked([model], [3, 4], begun, float)[:4]
    assert [hypothesis.tokens for hypothesis in found] == [tokens for _, tokens in best]
    for hypothesis in found:
        expected = log_probability([model], [3, 4], hypothesis.tokens)
        assert hypothesis.log_probability == pytest.approx(expected, rel=1e-5)


def test_an_ensemble_averages_probabilities() -> None:
    models = [toy(1), toy(2), toy(3)]
    for source in SOURCES[:3]:
        [best] = one(Beam(Ensemble(models, END), ROLES, wide()), source)
        assert best.tokens == ranked(models, source, every_output(CAP), float)[0][1]


def test_the_penalties_are_those_of_the_papers() -> None:
    for length in (1, 7, 40):
        assert Wu(0.6)(length) == pytest.approx((5 + length) ** 0.6 / (5 + 1) ** 0.6)
        assert Average(0.5)(length) == pytest.approx(math.sqrt(length))


def test_the_tree_holds_every_step_of_the_best_hypothesis() -> None:
    model, source = toy(), [3, 4]
    traces: dict[int, LineTrace] = {}
    config = SearchConfig(beam=3, max_length_extra=8)
    [best] = one(Beam(Ensemble([model], END), ROLES, config, traces=traces), source)
    tree = traces[0].tree(0, ["x"], lambda ids: [str(i) for i in ids], [best])
    extensions = {e["id"]: e for step in tree["steps"] for e in step["extensions"]}
    [last] = [
        e
        for e in extensions.values()
        if e["fate"] == "finished" and e["sum"] == pytest.approx(best.log_probability, abs=1e-6)
    ]
    assert last["score"] == pytest.approx(best.score)
    tokens, at = [], last
    while at["parent"] != 0:
        at = extensions[at["parent"]]
        assert at["fate"] == "open"
        tokens.append(at["token"])
    assert tokens[::-1] == best.tokens
    for step in tree["steps"]:
        fates = [e["fate"] for e in step["extensions"]]
        assert sum(fate in ("open", "stopped") for fate in fates) <= 3
        for row in step["open"]:
            total = sum(math.exp(p) for _, p in row["distribution"])
            assert 0.2 < total <= 1 + 1e-5  # of the pieces that are not banned
            for extension in (e for e in step["extensions"] if e["parent"] == row["id"]):
                chosen = dict(row["distribution"])[extension["piece"]]
                assert chosen == pytest.approx(extension["log_probability"], abs=1e-5)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_reader_that_fails_is_heard_after_the_answers_to_all_before(count: int, workers: int) -> None:
    from kotya.search.hypothesis import SearchLine
    from kotya.search.schedule import search_lines

    def lines() -> Iterator[SearchLine]:
        yield from (SearchLine([2 + i % 3] * (1 + 5 * i % 7), number=i) for i in range(count))
        raise ValueError("the next line")

    def make() -> Beam:
        return Beam(Ensemble([toy()], END), ROLES, SearchConfig())

    found = search_lines(make, lines(), rows=2, workers=workers)
    for _ in range(count):
        assert next(found)
    with pytest.raises(ValueError, match="the next line"):
        next(found)


def test_answers_stream() -> None:
    """The first answer comes while the input is not at its end."""
    import threading

    from kotya.search.hypothesis import SearchLine
    from kotya.search.schedule import search_lines

    answered = threading.Event()

    def lines() -> object:
        yield SearchLine([2], number=0)
        assert answered.wait(20)
        yield SearchLine([3], number=1)

    found = search_lines(lambda: Beam(Ensemble([toy()], END), ROLES, SearchConfig()), lines(), rows=4)  # type: ignore[arg-type]
    next(found)
    answered.set()
    assert len(list(found)) == 1


@torch.no_grad()
def test_coverage_is_the_formula_of_wu() -> None:
    from kotya.attention.recorder import record_attention
    from kotya.models.transformer import TransformerConfig

    torch.manual_seed(1)
    model = (
        TransformerConfig(size=16, heads=2, feed_forward=16, encoder_layers=1, decoder_layers=2)
        .build(6, 6)
        .eval()
    )
    beta, source = 0.3, [3, 4, 5]
    config = SearchConfig(beam=3, nbest=3, coverage_penalty=beta, max_length_extra=6, max_length_ratio=0)
    for hypothesis in one(Beam(Ensemble([model], END), ROLES, config), source):
        with record_attention(model) as maps:
            model(torch.tensor([[*source, END]]), torch.tensor([4]), torch.tensor([[0, *hypothesis.tokens]]))
        attention = maps["decoder.layers.1.cross"][0][0].double().mean(0)
        penalty = beta * sum(math.log(min(float(attention[:, i].sum()), 1.0)) for i in range(4))
        expected = hypothesis.log_probability / (len(hypothesis.tokens) + 1) + penalty
        assert hypothesis.score == pytest.approx(expected, abs=1e-5)
