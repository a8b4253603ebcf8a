"""Guided alignment: the loss is the paper's formula, links find their pairs through cleaning, and attention learns."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kotya import recipe as recipes
from kotya.attention.reading import GuidedAlignmentConfig, Reading
from kotya.errors import KotyaError
from kotya.inference.alignment import Aligner, Side
from kotya.models.seq2seq import Seq2Seq
from kotya.search.ensemble import Ensemble
from kotya.tasks.guidance import Corpus, Guidance, aligned_lines
from kotya.tasks.parallel import prepare
from kotya.tasks.translation import Translation
from kotya.tasks.translation_recipe import TranslationRecipe
from kotya.text.cache import TokenCache, cache_folder
from kotya.text.cleaning import CleaningConfig
from kotya.text.corpus import TextSource
from kotya.text.vocabulary import Vocabulary
from training_corpus import content

BAHDANAU = {
    "preset": "bahdanau",
    "encoder": {"size": 16, "embedding": 16},
    "decoder": {"size": 16, "embedding": 16, "readout": 16},
}

SMALL = {
    "size": 32,
    "heads": 2,
    "feed_forward": 64,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "dropout": 0.0,
}


def linked_to(word: int, words: int, gaps: bool) -> int | None:
    """The source word that stands as far from the other end; with `gaps` every third word has none."""
    return None if gaps and word % 3 == 1 else words - 1 - word


def reversing_links(corpus: Path, *, gaps: bool = False) -> None:
    """Every target word is the translation of the source word that stands as far from the other end."""
    lines = (corpus / "train.src").read_text(encoding="utf-8").splitlines()
    counts = [len(line.split()) for line in lines]
    links = (
        " ".join(f"{i}-{j}" for j in range(n) if (i := linked_to(j, n, gaps)) is not None) for n in counts
    )
    (corpus / "train.align").write_text("".join(line + "\n" for line in links))


def guided_recipe(
    corpus: Path, model: Any = None, dropout: float = 0.0, **training: Any
) -> TranslationRecipe:
    guided = training.pop("guided", {"weight": 1.0})
    plain = content(corpus, **training, guided_alignment=guided)
    plain["data"]["train"]["alignments"] = "train.align"
    plain["vocabulary"]["dropout"] = dropout
    plain["model"] = model or plain["model"]
    return recipes.parse(plain, "test")


def prepared(recipe: TranslationRecipe) -> Translation:
    vocabularies, train, dev = prepare(
        recipe.data, recipe.vocabulary, cache_folder(), recipe.data_root(), vocabularies=None, progress=False
    )
    guided = recipe.training.guided_alignment
    assert guided is not None
    assert recipe.model is not None
    lag = guided.lag(recipe.model.build(8, 8).decoder.knows_after)
    corpora = [files.corpus(recipe.data_root()) for files in recipe.data.train]
    return Translation(
        vocabularies,
        train,
        dev,
        tokens=256,
        seed=1,
        smoothing=0.1,
        r_drop=recipe.training.r_drop,
        dropout=recipe.vocabulary.dropout,
        guidance=Guidance.read(guided, lag, corpora, train),
    )


@pytest.mark.parametrize("step", ["output", "input"])
@pytest.mark.parametrize("r_drop", [0.0, 1.0])
@pytest.mark.parametrize(("empty_word", "settings"), [(False, SMALL), (True, SMALL), (True, BAHDANAU)])
def test_the_loss_is_the_formula_of_the_paper(
    corpus: Path, step: str, r_drop: float, empty_word: bool, settings: Any
) -> None:
    """-Σ A log a over every piece, A from the words that the pieces stand in, one pair after another.

    A word without links teaches nothing, or the end of the source; in a pair without links it teaches nothing.
    """
    reversing_links(corpus, gaps=True)
    lines = (corpus / "train.align").read_text().splitlines()
    (corpus / "train.align").write_text("".join(f"{line}\n" for line in ["", *lines[1:]]))
    head = 2 if settings is SMALL else 1
    guided = {"weight": 0.5, "head": head, "step": step, "empty_word": empty_word}
    recipe = guided_recipe(corpus, settings, r_drop=r_drop, dropout=0.3, guided=guided)
    task = prepared(recipe)
    model = recipe.model.build(len(task.source), len(task.target)).eval()
    batch = task.batch(np.arange(6), 0)
    term = task.losses(model, batch)["guided_alignment"]
    expected, pieces = 0.0, 0
    for index in range(6):
        alone = task.batch(np.array([index]), 0)
        source, target = alone.source[0, :-1].tolist(), alone.inputs[0, 1:].tolist()
        source_words, target_words = task.source.words(source), task.target.words(target)
        aligner = Aligner(Ensemble([model], task.source.end), (task.source, task.target), Reading(head=head))
        attention = piece_attention(aligner, source, target)
        words = source_words[-1] + 1
        for t, word in enumerate(target_words):
            row = t if step == "output" else t + (1 if settings is SMALL else 2)
            source_word = linked_to(word, words, gaps=True)
            linked = [s for s, other in enumerate(source_words) if other == source_word]
            if source_word is None and empty_word:
                linked = [len(source)]
            if index == 0 or not linked or row == len(attention):
                continue
            expected -= sum(math.log(attention[row, s]) for s in linked) / len(linked)
            pieces += 1
    assert term.item() == pytest.approx(0.5 * expected, rel=1e-4)
    assert task.weights(batch)["guided_alignment"] == pieces


def piece_attention(aligner: Aligner, source: list[int], target: list[int]) -> Any:
    return aligner._weights([(Side([], source, []), Side([], target, []))])[0]


def test_links_find_the_pairs_that_cleaning_kept(tmp_path: Path) -> None:
    files = {
        "s": "a b\n\nc\na b\nc c c c c c c c\nc\nc\n",
        "t": "x\nq\ny\nx\nlong\ny\nz\n",
        "a": "1-0\n\n0-0\n0-0\n7-0\n\n0-0\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    corpus = Corpus(TextSource.of(tmp_path / "s"), TextSource.of(tmp_path / "t"), tmp_path / "a")
    vocabulary = Vocabulary.learn(lambda: ["a b c x y z q long"], 270)
    cleaning = CleaningConfig(max_length=8, duplicates="drop")
    cache = TokenCache.open_or_build(
        corpus.source, corpus.target, (vocabulary, vocabulary), cleaning, tmp_path, progress=False
    )
    assert [cache.text(i) for i in range(len(cache))] == [("a b", "x"), ("c", "y"), ("c", "z")]
    pairs = Guidance.read(GuidedAlignmentConfig(), 0, [corpus], cache).pairs
    assert [pairs[i].tolist() for i in range(3)] == [[[1, 0]], [[0, 0]], [[0, 0]]]
    (tmp_path / "a").write_text("0-0\n\n0-0\n")
    with pytest.raises(KotyaError, match="a ends after line 3 but"):
        list(aligned_lines(corpus))
    (tmp_path / "a").write_text("0-0\n\n0-1\n")
    with pytest.raises(KotyaError, match="a:3: the link 0-1 points outside a pair of 1 and 1 words"):
        list(aligned_lines(corpus))
    (tmp_path / "a").write_text("\n" * 8)
    with pytest.raises(KotyaError, match="s ends after line 7 but"):
        list(aligned_lines(corpus))


def test_without_alignments_there_is_no_guidance(corpus: Path) -> None:
    recipe = guided_recipe(corpus)
    with pytest.raises(KotyaError, match=r"train\.align"):
        prepared(recipe)
    (corpus / "train.align").write_text("\n" * 400)
    with pytest.raises(KotyaError, match="have no link"):
        prepared(recipe)
    bare = recipe.data.train[0].model_copy(update={"alignments": None})
    with pytest.raises(KotyaError, match="name a file of them"):
        Guidance.read(GuidedAlignmentConfig(), 0, [bare.corpus(corpus)], prepared_tokens(recipe))


def prepared_tokens(recipe: TranslationRecipe) -> Any:
    return prepare(
        recipe.data, recipe.vocabulary, cache_folder(), recipe.data_root(), vocabularies=None, progress=False
    )[1]


def test_a_compiled_model_cannot_be_guided(corpus: Path) -> None:
    with pytest.raises(KotyaError, match="guided_alignment needs compile: false"):
        guided_recipe(corpus, compile=True)


@pytest.mark.parametrize(
    ("model", "names", "rate"),
    [(SMALL, ("cross_entropy", "guided_alignment"), 0.005), (BAHDANAU, ("guided_alignment",), 0.02)],
    ids=["transformer", "bahdanau"],
)
def test_attention_learns_the_alignments_it_is_taught(
    corpus: Path, model: Any, names: tuple[str, ...], rate: float
) -> None:
    reversing_links(corpus)
    recipe = guided_recipe(corpus, model)
    task = prepared(recipe)
    torch.manual_seed(1)
    network = recipe.model.build(len(task.source), len(task.target))
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    before = share_right(task, network)
    for number in range(3):
        for indices in task.round(number):
            batch = task.batch(indices, number)
            weights, terms = task.weights(batch), task.losses(network, batch)
            torch.stack([terms[name] / weights[name] for name in names]).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert before < 0.5
    assert share_right(task, network) > 0.7


def share_right(task: Translation, network: Seq2Seq) -> float:
    """How many target words are linked as they should be."""
    aligner = Aligner(
        Ensemble([network.eval()], task.source.end), (task.source, task.target), Reading(head=1)
    )
    found = list(aligner.align([task.train.text(index) for index in range(40)]))
    network.train()
    right = sum((len(one.source) - 1 - j, j) in one.links for one in found for j in range(len(one.target)))
    return right / sum(len(one.target) for one in found)
