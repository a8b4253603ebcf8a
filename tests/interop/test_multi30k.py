"""The real MarianMT model on Multi30k: ids and translations are those of `transformers`."""

import os
import warnings
from functools import partial
from pathlib import Path

import pytest
import sacrebleu
import torch
from transformers import MarianMTModel, MarianTokenizer

from kotya.interop.marian import Marian, read_marian
from kotya.search.beam import Beam
from kotya.search.ensemble import Ensemble
from kotya.search.greedy import Greedy
from kotya.search.hypothesis import Hypothesis, Roles, SearchLine
from kotya.search.schedule import search_lines

LONGEST = 100
"""Pieces of an output at most. One line of the test set never ends by itself in greedy search."""

DATA, MODELS = os.environ.get("KOTYA_DATA"), os.environ.get("KOTYA_MODELS")
pytestmark = pytest.mark.skipif(
    not DATA or not MODELS, reason="KOTYA_DATA and KOTYA_MODELS do not say where the corpora and models are"
)


def folder() -> Path:
    return Path(MODELS or "") / "marian-multi30k-de-en"


def lines(name: str) -> list[str]:
    return (Path(DATA or "") / "multi30k" / name).read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def imported() -> Marian:
    return read_marian(folder())


@pytest.mark.parametrize("part", ["val", "test_2016_flickr"])
@pytest.mark.parametrize("language", ["de", "en"])
def test_ids_are_theirs(imported: Marian, part: str, language: str) -> None:
    texts = lines(f"{part}.{language}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a package
        tokenizer = MarianTokenizer.from_pretrained(folder())
    target = language == "en"
    theirs = (tokenizer(text_target=texts) if target else tokenizer(texts))["input_ids"]
    vocabulary = imported.target if target else imported.source
    assert [[*ids, vocabulary.end] for ids in vocabulary.encode_batch(texts)] == theirs


def search(imported: Marian, texts: list[str], beam: int) -> list[Hypothesis]:
    """Our best hypothesis of every line, under the rules of `generate`: at most LONGEST pieces."""
    rules = {"beam": beam, "max_length_ratio": 0, "max_length_extra": LONGEST + 1}  # we count the end
    config = imported.search.model_copy(update=rules)
    roles = Roles(imported.target.begin, imported.target.end, tuple(imported.banned))
    ensemble = Ensemble([imported.model], imported.source.end)
    make = (
        partial(Beam, ensemble, roles, config)
        if beam > 1
        else partial(Greedy, ensemble, roles, config, scores=True)
    )
    lines = (SearchLine(ids, number=i) for i, ids in enumerate(imported.source.encode_batch(texts)))
    return [hypotheses[0] for hypotheses in search_lines(make, lines, rows=64)]


@torch.inference_mode()
def generate(imported: Marian, texts: list[str], beam: int) -> list[list[int]]:
    """Their output ids of every line, without end: sorted by length, in batches of 64, in float32."""
    original = MarianMTModel.from_pretrained(folder()).eval()
    ids = [[*line, imported.source.end] for line in imported.source.encode_batch(texts)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    outputs: list[list[int]] = [[] for _ in ids]
    pad = imported.source.pad
    for first in range(0, len(order), 64):
        rows = order[first : first + 64]
        longest = max(len(ids[i]) for i in rows)
        batch = torch.tensor([ids[i] + [pad] * (longest - len(ids[i])) for i in rows])
        found = original.generate(
            input_ids=batch,
            attention_mask=(batch != pad).long(),
            num_beams=beam,
            max_new_tokens=LONGEST,
            do_sample=False,
        )
        for row, tokens in zip(rows, found[:, 1:].tolist(), strict=True):
            special = (imported.target.end, pad)
            outputs[row] = [token for token in tokens if token not in special]
    return outputs


@torch.inference_mode()
def mean_log_probability(imported: Marian, text: str, output: list[int]) -> float:
    """Of a whole output with its end, divided by its length: what both searches maximise."""
    source = torch.tensor([[*imported.source.encode(text), imported.source.end]])
    inputs = torch.tensor([[imported.target.begin, *output]])
    hidden = imported.model(source, torch.tensor([source.shape[1]]), inputs)
    log_p = imported.model.decoder.output(hidden)[0].double().log_softmax(-1)
    whole = torch.tensor([*output, imported.target.end])
    return float(log_p.gather(1, whole[:, None]).mean())


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_greedy_output_is_theirs(imported: Marian, count: int) -> None:
    texts = lines("test_2016_flickr.de")[-count:]
    ours = search(imported, texts, 1)
    assert [hypothesis.tokens for hypothesis in ours] == generate(imported, texts, 1)
    if count == 1000:
        assert bleu(imported, ours) == pytest.approx(34.20, abs=0.01)


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_beam_output_is_theirs_or_better(imported: Marian, count: int) -> None:
    """The imported folder says which rule to stop by: theirs."""
    texts = lines("test_2016_flickr.de")[:count]
    ours, theirs = search(imported, texts, 5), generate(imported, texts, 5)
    others = [i for i in range(count) if ours[i].tokens != theirs[i]]
    assert len(others) <= count / 100
    for i in others:
        their_score = mean_log_probability(imported, texts[i], theirs[i])
        assert mean_log_probability(imported, texts[i], ours[i].tokens) > their_score - 1e-5
    if count == 1000:
        assert bleu(imported, ours) == pytest.approx(36.15, abs=0.01)


def bleu(imported: Marian, hypotheses: list[Hypothesis]) -> float:
    texts = [imported.target.decode(hypothesis.tokens) for hypothesis in hypotheses]
    return float(sacrebleu.corpus_bleu(texts, [lines("test_2016_flickr.en")]).score)
