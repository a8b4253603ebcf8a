"""The translation task: what a batch holds, that data are functions of (seed, epoch, example), and the dev metrics."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU

from kotya.errors import KotyaError
from kotya.metrics import translation_scores
from kotya.tasks.parallel import ParallelFiles, prepare
from kotya.tasks.translation import Translation, collate, roles_of
from kotya.training.run import cache_folder
from training_corpus import small_recipe


def prepared(corpus: Path, *, dropout: float = 0.0, seed: int = 1) -> Translation:
    recipe = small_recipe(corpus)
    vocabularies, train, dev = prepare(
        recipe.data, recipe.vocabulary, cache_folder(), recipe.data_root(), vocabularies=None, progress=False
    )
    return Translation(
        vocabularies, train, dev, tokens=256, seed=seed, smoothing=0.1, r_drop=0.0, dropout=dropout
    )


def test_a_batch_holds_begin_ends_and_only_real_outputs(corpus: Path) -> None:
    target = prepared(corpus).target
    batch = collate([([7, 8, 9], [10]), ([7], [11, 12])], target.end, target)
    end, begin = target.end, target.begin
    assert batch.source.tolist() == [[7, 8, 9, end], [7, end, end, end]]
    assert batch.lengths.tolist() == [4, 2]
    assert batch.inputs.tolist() == [[begin, 10, end], [begin, 11, 12]]
    assert batch.outputs.tolist() == [10, end, 11, 12, end]
    assert batch.inputs.flatten()[batch.real].tolist() == [begin, 10, begin, 11, 12]
    assert batch.tokens == 5


def test_the_loss_does_not_depend_on_padding_or_neighbours(corpus: Path) -> None:
    task = prepared(corpus)
    model = small_recipe(corpus).model.build(len(task.source), len(task.target)).eval()
    indices = np.arange(12)
    together = task.losses(model, task.batch(indices, 0))
    alone = [task.losses(model, task.batch(indices[i : i + 1], 0)) for i in range(len(indices))]
    for name in ("cross_entropy", "nll"):
        torch.testing.assert_close(together[name], torch.stack([one[name] for one in alone]).sum())


def test_data_are_a_function_of_seed_epoch_and_example(corpus: Path) -> None:
    one, other = prepared(corpus, dropout=0.2), prepared(corpus, dropout=0.2)
    assert [batch.tolist() for batch in one.round(3)] == [batch.tolist() for batch in other.round(3)]
    other.batch(other.round(0)[0], 0)
    indices = one.round(3)[5]
    assert torch.equal(one.batch(indices, 3).source, other.batch(indices, 3).source)
    assert any(
        not torch.equal(one.batch(indices, 3).outputs, one.batch(indices, epoch).outputs)
        for epoch in range(3)
    )
    assert sorted(np.concatenate(one.round(1)).tolist()) == list(range(400))


def test_batches_are_made_by_the_segmentations_that_were_drawn(corpus: Path) -> None:
    task = prepared(corpus, dropout=0.3)
    batches = [task.batch(indices, 1) for indices in task.round(1)]
    assert all(batch.source.numel() <= 256 and batch.inputs.numel() <= 256 for batch in batches)
    real = sum(int(batch.lengths.sum()) + batch.tokens for batch in batches)
    assert real > 0.85 * sum(batch.source.numel() + batch.inputs.numel() for batch in batches)


def test_an_epoch_in_several_rounds_has_every_pair_once(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kotya.tasks.translation.ROUND", 150)
    task = prepared(corpus)
    assert task.rounds == 3
    rounds = [np.concatenate(task.round(number)) for number in range(6)]
    for epoch in (rounds[:3], rounds[3:]):
        assert sorted(np.concatenate(epoch).tolist()) == list(range(400))
    assert set(rounds[0].tolist()) != set(rounds[3].tolist())


def test_held_out_pairs_are_not_trained_on(corpus: Path) -> None:
    recipe = small_recipe(corpus)
    vocabularies, train, _ = prepare(
        recipe.data, recipe.vocabulary, cache_folder(), recipe.data_root(), vocabularies=None, progress=False
    )
    task = Translation(
        vocabularies, train, None, tokens=256, seed=1, smoothing=0.0, r_drop=0.0, dropout=0.0, held_out=30
    )
    assert sorted(np.concatenate(task.round(0)).tolist()) == list(range(370))
    assert task.dev.sources == [train.text(index)[0] for index in range(370, 400)]
    with pytest.raises(KotyaError, match="dev set"):
        Translation(vocabularies, train, None, tokens=256, seed=1, smoothing=0.0, r_drop=0.0, dropout=0.0)


def test_evaluation_gives_bleu_and_the_likelihood_of_the_references(corpus: Path) -> None:
    task = prepared(corpus)
    model = small_recipe(corpus).model.build(len(task.source), len(task.target)).eval()
    evaluation = task.evaluate(model, nullcontext)
    assert set(evaluation.metrics) == {"BLEU", "chrF", "nll"}
    pairs = zip(task.dev.sources, task.dev.references, strict=True)
    total = count = 0.0
    for source, reference in pairs:
        batch = collate(
            [(task.source.encode(source), task.target.encode(reference))], task.source.end, task.target
        )
        total += float(task.losses(model, batch)["nll"])
        count += batch.tokens
    assert evaluation.metrics["nll"] == pytest.approx(total / count, rel=1e-5)
    assert len(evaluation.samples) == 2


def test_scores_are_sacrebleu_s_with_signatures() -> None:
    hypotheses, references = ["a cat sat on a mat .", "yes"], ["the cat sat on the mat .", "no"]
    bleu, chrf = translation_scores(hypotheses, references)
    assert bleu.value == BLEU().corpus_score(hypotheses, [references]).score
    assert bleu.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "nc:6|nw:0" in chrf.signature
    with pytest.raises(KotyaError, match="2 translations but 1 references"):
        translation_scores(hypotheses, references[:1])


def test_no_output_holds_padding_begin_or_unknown(corpus: Path) -> None:
    target = prepared(corpus).target
    assert roles_of(target).banned == (target.pad, target.unknown, target.begin)


@pytest.mark.parametrize("files", [{}, {"source": "a"}, {"source": "a", "target": "b", "pairs": "c"}])
def test_parallel_text_is_two_files_or_one_table(files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="parallel text is"):
        ParallelFiles(**files)
