"""BLEU by length: groups that take every line once, and the corpus BLEU of each; several models on one test set."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from kotya import folder
from kotya.errors import KotyaError
from kotya.inference.lengths import FEWEST, bleu_by_length, buckets, compare, encoder_seconds
from kotya.inference.loading import load_translator
from kotya.metrics import bleu_interval, translation_scores
from kotya.models.transformer import TransformerConfig
from kotya.search.config import SearchConfig
from kotya.tasks.translation import roles_of
from kotya.tasks.translation_recipe import TranslationFolder
from kotya.text.corpus import TextSource
from kotya.text.vocabulary import Vocabulary

WORDS = ["a", "cat", "sat", "on", "the", "mat"]


def sentences(count: int, longest: int = 12) -> list[str]:
    generator = random.Random(count)
    return [" ".join(generator.choices(WORDS, k=generator.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize(("count", "longest"), [(70, 12), (500, 40), (1000, 3)])
def test_every_line_is_in_one_group_by_length(count: int, longest: int) -> None:
    lines = sentences(count, longest)
    found = buckets(lines)
    assert sorted(i for group in found for i in group) == list(range(count))
    words = [{len(lines[i].split()) for i in group} for group in found]
    assert len(found) > 1
    for shorter, longer in pairwise(words):
        assert max(shorter) < min(longer)
    assert all(len(group) >= FEWEST for group in found[:-1])
    assert len(found[-1]) >= FEWEST / 2


@pytest.mark.parametrize("lines", [[], sentences(20), ["a cat"] * 500])
def test_too_few_lines_or_lengths(lines: list[str]) -> None:
    with pytest.raises(KotyaError, match="no two groups"):
        buckets(lines)


def test_a_group_has_the_bleu_of_its_lines() -> None:
    references = sentences(200)
    generator = random.Random(1)
    outputs = [" ".join(w for w in line.split() if generator.random() < 0.9) for line in references]
    groups = buckets(references)
    for group, lines in zip(bleu_by_length(references, references, outputs), groups, strict=True):
        expected = translation_scores([outputs[i] for i in lines], [references[i] for i in lines])[0]
        assert group.bleu.value == pytest.approx(expected.value)
        assert group.bleu.low <= group.bleu.value <= group.bleu.high
        assert (group.bleu.low < group.bleu.high) == (group.high > 3)  # no four words, no BLEU
        assert group.lines == len(lines)
        assert group.low <= group.mean <= group.high


def test_an_interval_narrows_with_more_lines_and_closes_on_the_sure() -> None:
    references = sentences(400)
    generator = random.Random(1)
    outputs = [" ".join(w for w in line.split() if generator.random() < 0.9) for line in references]
    few, many = bleu_interval(outputs[:50], references[:50]), bleu_interval(outputs, references)
    assert many.high - many.low < few.high - few.low
    perfect = bleu_interval(references, references)
    assert (perfect.value, perfect.low, perfect.high) == pytest.approx((100, 100, 100))
    with pytest.raises(KotyaError, match="49 translations but 50 references"):
        bleu_interval(outputs[:49], references[:50])


def write_model(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    vocabulary = Vocabulary.learn(lambda: sentences(50), 300)
    model = TransformerConfig(size=16, heads=2, feed_forward=16, encoder_layers=1, decoder_layers=1)
    config = TranslationFolder(
        model=model,
        search=SearchConfig(beam=1, max_length_ratio=0, max_length_extra=4),
        banned=list(roles_of(vocabulary).banned),
    )
    built = model.build(len(vocabulary), len(vocabulary))
    folder.create(
        path, config=config, vocabularies=(vocabulary, vocabulary), recipe=None, tensors=folder.weights(built)
    )
    return path


def test_models_are_compared_and_drawn(tmp_path: Path) -> None:
    models = [write_model(tmp_path / name, seed) for seed, name in enumerate(("one", "two"))]
    lines = tmp_path / "lines"
    lines.write_text("".join(line + "\n" for line in sentences(70)), encoding="utf-8")
    files = TextSource.of(lines), TextSource.of(lines)
    threads = torch.get_num_threads()
    found = compare(models, files, workers=1, threads=threads)
    assert [report.name for report in found.reports] == ["one", "two"]
    outputs = load_translator(models[1]).translate(sentences(70))
    assert found.reports[1].buckets == bleu_by_length(sentences(70), sentences(70), outputs)
    assert torch.get_num_threads() == threads
    found.draw(tmp_path / "lengths.svg")
    assert (tmp_path / "lengths.svg").stat().st_size > 5000
    with pytest.raises(KotyaError, match="names no test set"):
        compare(models, None, workers=1, threads=1)


def test_the_encoder_is_timed_at_every_length(tmp_path: Path) -> None:
    taken = encoder_seconds(load_translator(write_model(tmp_path / "one", 1)), (2, 64))
    assert list(taken) == [2, 64]
    assert all(seconds > 0 for seconds in taken.values())
