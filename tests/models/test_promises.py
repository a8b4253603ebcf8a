"""The promises that every architecture of the table keeps: any encoder with any decoder, with attention or without.

1 a line does not depend on the lines beside it; 2 cached = uncached; 3 score = search; 8 it learns to copy and to
reverse, and a wide beam finds the true argmax. The quick ones run always, the whole table with `make test-all`.
"""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from kotya.inference.scoring import score_pairs
from kotya.models.composed import ModelConfig
from kotya.models.seq2seq import Seq2Seq
from kotya.search.beam import Beam
from kotya.search.config import SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.greedy import Greedy
from kotya.search.hypothesis import Roles
from toy_decoder import answers, every_output, one, ranked

BEGIN, END, FIRST, VOCABULARY = 0, 1, 2, 12
COPY, REVERSE = 2, 3
SYMBOLS, LONGEST = range(4, VOCABULARY), 4
ROLES = Roles(BEGIN, END, (BEGIN,))

RNN = {"kind": "rnn", "size": 32, "embedding": 32}
BOTH_WAYS = {**RNN, "size": 16, "bidirectional": True}
LUONG = {"kind": "luong", "size": 32, "embedding": 32}
CNN = {"kind": "cnn", "size": 32, "embedding": 32, "layers": 2}
TRANSFORMER = {"kind": "transformer", "size": 32, "heads": 4, "feed_forward": 64, "layers": 2}

SMALL_RANDOM = {"kind": "random", "blocks": 1, "size": 2}
WHOLE = {
    "kind": "transformer",
    "size": 32,
    "heads": 4,
    "feed_forward": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "dropout": 0.0,
}


def pair(encoder: dict[str, Any], decoder: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "seq2seq", "encoder": encoder, "decoder": decoder, "dropout": 0.0}


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "transformer": WHOLE,
    "transformer-pre": {**WHOLE, "norm": "pre", "activation": "gelu"},
    "transformer-modern": {
        **WHOLE,
        "norm": "pre",
        "normalization": "rms",
        "activation": "swiglu",
        "bias": False,
        "positions": "rotary",
    },
    "transformer-patterns": {
        **WHOLE,
        "encoder_attention": {"kind": "block_sparse", "size": 1, "random": 1},
        "decoder_attention": {"kind": "any", "of": [{"kind": "window", "left": 5}, SMALL_RANDOM]},
        "cross_attention": {
            "kind": "heads",
            "of": ["full", {"kind": "any", "of": [{"kind": "global", "positions": 2}, SMALL_RANDOM]}],
        },
    },
    "rnn": pair(
        {**RNN, "size": 64, "cell": "lstm", "reverse_source": True}, {**RNN, "size": 64, "cell": "lstm"}
    ),
    "rnn-cho": pair({**BOTH_WAYS, "size": 32}, {**RNN, "size": 64, "feed_summary": True}),
    "luong-dot": pair({**RNN, "cell": "lstm"}, {**LUONG, "cell": "lstm", "score": "dot"}),
    "luong-scaled-dot": pair(RNN, {**LUONG, "score": "scaled-dot"}),
    "luong-bilinear-deep": pair({**BOTH_WAYS, "layers": 2}, {**LUONG, "layers": 2, "score": "bilinear"}),
    "luong-mlp-feeding": pair(RNN, {**LUONG, "score": "mlp", "input_feeding": True}),
    "luong-deep-feeding": pair(RNN, {**LUONG, "cell": "lstm", "layers": 2, "input_feeding": True}),
    "transformer-linear": {
        **WHOLE,
        "encoder_attention": {"kind": "linformer", "size": 4},
        "decoder_attention": "linear",
        "cross_attention": {"kind": "linformer", "size": 4},
    },
    "luong-local-m": pair(BOTH_WAYS, {**LUONG, "attention": "local-m", "window": 7}),
    "luong-local-p": pair(RNN, {**LUONG, "attention": "local-p", "window": 3, "input_feeding": True}),
    "bahdanau": pair(BOTH_WAYS, {**LUONG, "kind": "bahdanau", "readout": 32}),
    "bahdanau-lstm-dot": pair(RNN, {**LUONG, "kind": "bahdanau", "cell": "lstm", "score": "scaled-dot"}),
    "rnn-tanh": pair({**BOTH_WAYS, "cell": "tanh"}, {**LUONG, "cell": "tanh", "kind": "bahdanau"}),
    "transformer-rnn": pair(TRANSFORMER, {**RNN, "size": 64}),
    "transformer-luong": pair(TRANSFORMER, {**LUONG, "score": "mlp"}),
    "transformer-bahdanau": pair(TRANSFORMER, {**LUONG, "kind": "bahdanau"}),
    "rnn-transformer": pair(BOTH_WAYS, TRANSFORMER),
    "cnn": pair(CNN, {**CNN, "layers": 3}),
    "cnn-mlp": pair({**CNN, "kernel": 5}, {**CNN, "kernel": 2, "score": "mlp"}),
    "cnn-fixed": pair(CNN, {**CNN, "attention": False}),
    "cnn-rnn": pair(CNN, {**RNN, "size": 64}),
    "cnn-luong": pair(CNN, LUONG),
    "cnn-bahdanau": pair(CNN, {**LUONG, "kind": "bahdanau"}),
    "cnn-transformer": pair(CNN, TRANSFORMER),
    "rnn-cnn": pair(BOTH_WAYS, {**CNN, "score": "bilinear"}),
    "rnn-cnn-fixed": pair(RNN, {**CNN, "attention": False}),
    "transformer-cnn": pair(TRANSFORMER, {**CNN, "layers": 3}),
}
QUICK = {"rnn", "luong-dot", "bahdanau", "cnn", "transformer", "transformer-modern"}
"""One a kind of decoder, and every block of the Transformer."""

every = pytest.mark.parametrize("name", ARCHITECTURES)
learners = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]
)


def build(name: str, vocabulary: int = VOCABULARY) -> Seq2Seq:
    torch.manual_seed(1)
    config: Any = TypeAdapter(ModelConfig).validate_python(ARCHITECTURES[name])
    model: Seq2Seq = config.build(vocabulary, vocabulary).eval()
    return model


def sharp(name: str, vocabulary: int = VOCABULARY) -> Seq2Seq:
    """A model whose outputs are not all alike."""
    model = build(name, vocabulary)
    with torch.no_grad():
        weight, _ = model.decoder.output_weights()
        weight *= 3.0
    return model


def random_lines(*lengths: int, seed: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(FIRST, VOCABULARY, (length,), generator=generator) for length in lengths]


def batch(lines: list[Tensor], padding: int = 3) -> tuple[Tensor, Tensor]:
    padded = nn.utils.rnn.pad_sequence(lines, batch_first=True, padding_value=padding)
    return padded, torch.tensor([len(line) for line in lines])


@every
@torch.no_grad()
def test_1_a_line_does_not_depend_on_the_lines_beside_it(name: str) -> None:
    model = build(name)
    sources, targets = random_lines(5, 11, 1), random_lines(4, 2, 9, seed=3)
    together = model.decoder.output(model(*batch(sources), batch(targets)[0]))
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        alone = model.decoder.output(model(*batch([source]), target[None]))[0]
        torch.testing.assert_close(together[row, : len(target)], alone, atol=1e-5, rtol=1e-5)
    elsewhere = nn.functional.pad(batch(sources, padding=7)[0], (0, 4), value=9)
    padded = model.decoder.output(model(elsewhere, batch(sources)[1], batch(targets)[0]))
    torch.testing.assert_close(together, padded, atol=1e-5, rtol=1e-5)


@every
@torch.no_grad()
def test_2_cached_equals_uncached_whatever_happens_to_the_rows(name: str) -> None:
    """Rows of every age, many a line, that reorder, repeat, leave and join."""
    model = build(name)
    sources, targets = random_lines(5, 11, 2), random_lines(30, 30, 30, seed=3)
    whole = [
        model.decoder.output(model(*batch([s]), t[None]))[0] for s, t in zip(sources, targets, strict=True)
    ]
    state = model.decoder.start(model.encode(*batch(sources[:2])))
    first, state = model.decoder.extend(torch.stack(targets[:2])[:, :4], state, all_positions=True)
    torch.testing.assert_close(first, torch.stack([w[:4] for w in whole[:2]]), atol=1e-5, rtol=1e-5)
    state = state.select(torch.tensor([1, 1, 0]))
    state = state.join(model.decoder.start(model.encode(*batch(sources[2:]))))
    rows, ages = [1, 1, 0, 2], [4, 4, 4, 0]
    selections = {2: [3, 0], 6: [0, 1, 0, 0, 1], 12: [2]}
    for step in range(16):
        tokens = torch.stack([targets[line][age] for line, age in zip(rows, ages, strict=True)])[:, None]
        logits, state = model.decoder.extend(tokens, state)
        expected = torch.stack([whole[line][age] for line, age in zip(rows, ages, strict=True)])
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        ages = [age + 1 for age in ages]
        assert state.positions.tolist() == ages
        kept = selections.get(step)
        if kept is not None:
            state = state.select(torch.tensor(kept))
            rows, ages = [rows[i] for i in kept], [ages[i] for i in kept]


@every
def test_1_and_3_search_finds_the_same_in_any_company_and_scores_it_as_scoring_does(name: str) -> None:
    ensemble = Ensemble([sharp(name)], END)
    config = SearchConfig(beam=3, nbest=2, max_length_ratio=0, max_length_extra=7)
    sources = [line.tolist() for line in random_lines(3, 8, 1, 5, 2)]

    def make(greedy: bool) -> Any:
        return lambda: (
            Greedy(ensemble, ROLES, config, scores=True) if greedy else Beam(ensemble, ROLES, config)
        )

    for greedy in (True, False):
        found = answers(make(greedy), sources, rows=2)
        alone = [one(make(greedy)(), source) for source in sources]
        for mine, theirs in zip(found, alone, strict=True):
            assert [h.tokens for h in mine] == [h.tokens for h in theirs]
        pairs = [(s, h.tokens) for s, hs in zip(sources, found, strict=True) for h in hs]
        expected = [h.log_probability for hs in found for h in hs]
        scored = [one.log_probability for one in score_pairs(ensemble, ROLES, pairs)]
        assert scored == pytest.approx(expected, abs=1e-4)


@every
@pytest.mark.usefixtures("unchecked")
def test_8_a_wide_beam_finds_the_true_argmax(name: str) -> None:
    """All outputs of up to four pieces, listed."""
    model, cap = sharp(name, 6), 4
    config = SearchConfig(beam=4**cap, nbest=3, max_length_ratio=0, max_length_extra=cap)
    for source in ([2], [5, 2, 3]):
        best = ranked([model], source, every_output(cap), config.penalty())[:3]
        found = one(Beam(Ensemble([model], END), ROLES, config), source)
        assert [hypothesis.tokens for hypothesis in found] == [tokens for _, tokens in best]
        assert [h.score for h in found] == pytest.approx([score for score, _ in best], abs=1e-4)


def examples(count: int, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """A word that says what is to be done, and symbols; and what comes of it."""
    sources, targets = [], []
    for i in range(count):
        length = int(torch.randint(1, LONGEST + 1, (), generator=generator))
        symbols = torch.randint(SYMBOLS.start, SYMBOLS.stop, (length,), generator=generator)
        word = (COPY, REVERSE)[i % 2]
        sources.append(torch.cat([torch.tensor([word]), symbols, torch.tensor([END])]))
        targets.append(symbols if word == COPY else symbols.flip(0))
    return sources, targets


def train(model: Seq2Seq, updates: int) -> None:
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    for update in range(updates):
        rise, fall = (update + 1) / 50, (updates - update) / (updates / 2)
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1.0, rise, fall)
        sources, targets = examples(64, generator)
        inputs = batch([torch.cat([torch.tensor([BEGIN]), y]) for y in targets])[0]
        outputs = batch([torch.cat([y, torch.tensor([END])]) for y in targets], padding=-1)[0]
        real = outputs >= 0
        loss, _ = model.loss(model(*batch(sources), inputs)[real], outputs[real])
        optimizer.zero_grad()
        (loss / real.sum()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@learners
@pytest.mark.usefixtures("unchecked")
def test_8_it_learns_to_copy_and_to_reverse(name: str) -> None:
    model = build(name).train()
    decoder = ARCHITECTURES[name].get("decoder", {})
    fixed = decoder.get("kind") == "rnn" or decoder.get("attention") is False
    train(model, updates=500 if fixed else 300)
    sources, targets = examples(100, torch.Generator().manual_seed(2))
    config = SearchConfig(beam=1, max_length_extra=5)
    ensemble = Ensemble([model.eval()], END)
    lines = [source[:-1].tolist() for source in sources]
    found = answers(lambda: Greedy(ensemble, ROLES, config, scores=False), lines, rows=50)
    right = [said[0].tokens == target.tolist() for said, target in zip(found, targets, strict=True)]
    # one vector must hold the whole source where there is no attention: it learns more slowly, as the papers say
    assert sum(right) / len(right) >= (0.7 if fixed else 0.9)
