"""The language model keeps the promises of every decoder, and search finds what scoring says."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kotya.attention.packed import Packing
from kotya.inference.scoring import score_pairs
from kotya.models.lm import LanguageModel, LanguageModelConfig
from kotya.search.beam import Beam
from kotya.search.config import SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.greedy import Greedy
from kotya.search.hypothesis import Hypothesis, Roles, SearchLine
from kotya.search.sampling import Sampling, SamplingConfig
from kotya.search.schedule import search_lines

VOCABULARY, BEGIN, END = 12, 0, 1
ROLES = Roles(BEGIN, END, (BEGIN,))
SMALL: dict[str, Any] = {"size": 16, "heads": 2, "feed_forward": 32, "layers": 2, "max_length": 40}
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt": {},
    "post": {"norm": "post"},
    "modern": {"positions": "rotary", "activation": "swiglu", "normalization": "rms", "bias": False},
    "slow turns": {"positions": "rotary", "rotary_base": 300.0},
}
every = pytest.mark.parametrize("variant", VARIANTS)


def build(variant: str) -> LanguageModel:
    torch.manual_seed(1)
    model = LanguageModelConfig(**SMALL | VARIANTS[variant] | {"dropout": 0.0}).build(VOCABULARY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(12.0)
    return model


def whole(model: LanguageModel, text: Tensor) -> Tensor:
    """Logits of every next token of one text."""
    return model.decoder.output(model(text, Packing.of([len(text)])))


@every
@torch.no_grad()
def test_1_and_4_packed_is_each_text_alone_and_sees_no_token_to_come(variant: str) -> None:
    model = build(variant)
    lengths = (7, 1, 30, 7)
    ids = torch.randint(VOCABULARY, (sum(lengths),))
    together = model.decoder.output(model(ids, Packing.of(lengths)))
    for mine, text in zip(together.split(lengths), ids.split(lengths), strict=True):
        torch.testing.assert_close(mine, whole(model, text), atol=1e-5, rtol=1e-5)
        begun = whole(model, text[: len(text) // 2 + 1])
        torch.testing.assert_close(mine[: len(begun)], begun, atol=1e-5, rtol=1e-5)


@every
@torch.no_grad()
def test_2_cached_equals_uncached_whatever_happens_to_the_rows(variant: str) -> None:
    model = build(variant)
    decoder = model.decoder
    texts = torch.randint(VOCABULARY, (3, 30))
    expected = [whole(model, text) for text in texts]
    nothing = torch.empty(2, 0, dtype=torch.long)
    state = decoder.start(model.encode(nothing, torch.zeros(2, dtype=torch.long)))
    first, state = decoder.extend(texts[:2, :4], state, all_positions=True)
    torch.testing.assert_close(first, torch.stack([one[:4] for one in expected[:2]]), atol=1e-5, rtol=1e-5)
    state = state.select(torch.tensor([1, 1, 0]))
    state = state.join(decoder.start(model.encode(nothing[:1], torch.zeros(1, dtype=torch.long))))
    rows, ages = [1, 1, 0, 2], [4, 4, 4, 0]
    for step in range(16):
        tokens = torch.stack([texts[line, age] for line, age in zip(rows, ages, strict=True)])[:, None]
        logits, state = decoder.extend(tokens, state)
        right = torch.stack([expected[line][age] for line, age in zip(rows, ages, strict=True)])
        torch.testing.assert_close(logits, right, atol=1e-5, rtol=1e-5)
        ages = [age + 1 for age in ages]
        if step == 6:
            state = state.select(torch.tensor([3, 0]))
            rows, ages = [2, 1], [ages[3], ages[0]]


@pytest.mark.parametrize(
    ("attention", "masked"),
    [("full", True), (["linear", "full"], True), ("linear", False), (["window", "linear"], False)],
)
def test_a_prompt_makes_a_mask_of_all_pairs_only_for_layers_that_read_one(
    attention: Any, masked: bool
) -> None:
    model = LanguageModelConfig(**SMALL, attention=attention).build(VOCABULARY)
    memory = model.encode(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    _, mask = model.decoder.start(memory).advance(5)
    assert (mask is not None) == masked


def found(model: LanguageModel, how: str, prompts: list[list[int]], rows: int = 2) -> list[Hypothesis]:
    ensemble = Ensemble([model], END)
    config = SearchConfig(beam=3, max_length_ratio=0, max_length_extra=9)
    makers = {
        "greedy": lambda: Greedy(ensemble, ROLES, config, scores=True),
        "beam": lambda: Beam(ensemble, ROLES, config),
        "sampling": lambda: Sampling(ensemble, ROLES, config, SamplingConfig(seed=3)),
    }
    lines = (SearchLine([BEGIN, *prompt], prompt, number) for number, prompt in enumerate(prompts))
    return [hypotheses[0] for hypotheses in search_lines(makers[how], lines, rows=rows)]


@every
@pytest.mark.parametrize("how", ["greedy", "beam", "sampling"])
def test_1_and_3_search_goes_on_from_a_prompt_and_scoring_agrees(variant: str, how: str) -> None:
    model = build(variant)
    prompts = [[5, 3], [], [7, 7, 2], [5, 3, 4, 4]]
    hypotheses = found(model, how, prompts)
    assert [h.tokens for h in found(model, how, prompts, rows=1)] == [h.tokens for h in hypotheses]
    for prompt, hypothesis in zip(prompts, hypotheses, strict=True):
        assert hypothesis.tokens[: len(prompt)] == prompt
    scored = score_pairs(Ensemble([model], END), ROLES, [([], h.tokens) for h in hypotheses])
    assert [one.log_probability for one in scored] == pytest.approx(
        [h.log_probability for h in hypotheses], abs=1e-4
    )


@pytest.mark.parametrize("variant", ["gpt", "modern"])
def test_8_it_learns_texts_by_heart(variant: str) -> None:
    """Two texts that begin alike after the first token: what comes depends on it."""
    model = LanguageModelConfig(**SMALL | VARIANTS[variant]).build(VOCABULARY)
    texts = [[2, 5, 6, 7, 8, 9], [3, 5, 6, 7, 4, 4, 10]]
    lengths = [len(text) + 1 for text in texts]
    inputs = torch.tensor([token for text in texts for token in [BEGIN, *text]])
    outputs = torch.tensor([token for text in texts for token in [*text, END]])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(250):
        loss, _ = model.loss(model(inputs, Packing.of(lengths)), outputs)
        optimizer.zero_grad()
        (loss / len(outputs)).backward()
        optimizer.step()
    model.eval()
    assert [h.tokens for h in found(model, "greedy", [[2], [3]])] == texts


def test_global_projections_have_no_meaning_while_a_text_grows() -> None:
    with pytest.raises(ValueError, match="a language model has none"):
        LanguageModelConfig(**SMALL, attention="longformer", global_projections=True)
