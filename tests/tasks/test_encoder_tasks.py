"""Every task over an encoder: it learns, its parts add up, its data are pure, runs go on, bases are taken over."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kotya import folder
from kotya import recipe as recipes
from kotya.attention.packed import Packing
from kotya.errors import KotyaError
from kotya.tasks.packed_batch import pack, read
from kotya.tasks.settings import Prepared
from kotya.text.sequences import encode
from kotya.text.vocabulary import Vocabulary
from kotya.training.progress import Silent
from kotya.training.run import train
from tiny_model import write_model
from tiny_tasks import MADE, content, small_task

GOAL = {
    "classification": ("accuracy", 95.0),
    "regression": ("Pearson", 80.0),
    "relevance": ("MAP", 85.0),
    "tagging": ("F1", 95.0),
    "masked_lm": ("accuracy", 60.0),
    "language_model": ("perplexity", 5.0),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_gradients_accumulated_over_two_batches_are_those_of_one_twice_as_large(
    tmp_path: Path, kind: str
) -> None:
    """Their losses are means over unequal weights: of classes, of words."""
    weights = []
    for size, accumulate in ((16, 1), (8, 2)):
        run = tmp_path / f"{accumulate}"
        plan = content(tmp_path, kind, updates=4, examples=size, accumulate=accumulate, evaluate_every=4)
        plan["model"] |= {"dropout": 0.0, "attention_dropout": 0.0}
        if kind == "classification":
            plan["training"]["class_weights"] = {"good": 5.0, "bad": 0.5}
        train(recipes.parse(plan, "test"), run, reporter=Silent())
        weights.append(folder.read_weights(run / folder.WEIGHTS))
    for name, tensor in weights[0].items():
        # Adam turns what rounding left of a gradient that is 0, a key bias's, into steps
        if not name.endswith("bias"):
            torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=2e-4, msg=name)


def prepared(tmp_path: Path, kind: str, **training: Any) -> Prepared:
    return small_task(tmp_path, kind, **training).prepare(
        None, tmp_path / "cache", lambda _: None, progress=False
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", MADE)
def test_a_small_model_learns_it(tmp_path: Path, kind: str) -> None:
    outcome = train(small_task(tmp_path, kind), tmp_path / "run", reporter=Silent())
    name, goal = GOAL[kind]
    reached = outcome.metrics[name] < goal if kind == "language_model" else outcome.metrics[name] > goal
    assert reached, outcome.metrics


def test_pairs_of_documents_are_ranked_too(tmp_path: Path) -> None:
    outcome = train(small_task(tmp_path, "relevance", loss="pairwise"), tmp_path / "run", reporter=Silent())
    assert outcome.metrics["MAP"] > 85


@pytest.mark.parametrize("kind", [*MADE, "pairwise", "weighted"])
def test_micro_batches_add_up_to_the_batch(tmp_path: Path, kind: str) -> None:
    """A sum over parts, each divided by the weight of all, has the gradient of the whole."""
    options = {"pairwise": {"loss": "pairwise"}, "weighted": {"class_weights": {"good": 3.0}}}.get(kind, {})
    kind = {"pairwise": "relevance", "weighted": "classification"}.get(kind, kind)
    made = prepared(tmp_path, kind, **options)
    model = made.config.build(made.vocabularies).eval()
    indices = made.task.round(0)[0]
    cut = len(indices) // 3
    whole, parts = (
        made.task.batch(indices, 0),
        [made.task.batch(some, 0) for some in (indices[:cut], indices[cut:])],
    )
    total = made.task.weights(whole)
    for name in total:
        assert total[name] == pytest.approx(sum(made.task.weights(part)[name] for part in parts))
    expected = made.task.losses(model, whole)
    found = [made.task.losses(model, part) for part in parts]
    for name, term in expected.items():
        torch.testing.assert_close(sum(one[name] for one in found), term, rtol=1e-4, atol=1e-4)


def test_classes_count_by_their_weights(tmp_path: Path) -> None:
    """-Σ w_y log p_y, over Σ w_y."""
    weights = {"good": 3.0, "bad": 0.5}
    made = prepared(tmp_path, "classification", class_weights=weights)
    model = made.config.build(made.vocabularies).eval()
    batch = made.task.batch(made.task.round(0)[0], 0)
    labels = [made.config.labels[i] for i in batch.targets["labels"].tolist()]
    with torch.no_grad():
        log_p = read(model, batch).double().log_softmax(-1)
        expected = -sum(
            weights[label] * float(row[made.config.labels.index(label)])
            for label, row in zip(labels, log_p, strict=True)
        )
        assert float(made.task.losses(model, batch)["loss"]) == pytest.approx(expected, rel=1e-5)
    assert made.task.weights(batch)["loss"] == pytest.approx(sum(weights[label] for label in labels))


@pytest.mark.parametrize("weight", [0, -1])
def test_a_class_that_would_count_nothing_is_refused(tmp_path: Path, weight: int) -> None:
    with pytest.raises(KotyaError, match=r"class_weights: .*good: .* should be greater than 0"):
        small_task(tmp_path, "classification", class_weights={"good": weight})


@pytest.mark.parametrize("kind", MADE)
def test_data_are_a_function_of_seed_round_and_example(tmp_path: Path, kind: str) -> None:
    one, other = prepared(tmp_path, kind), prepared(tmp_path, kind)
    other.task.batch(other.task.round(0)[0], 0)
    assert [some.tolist() for some in one.task.round(3)] == [some.tolist() for some in other.task.round(3)]
    indices = one.task.round(3)[1]
    first, second = one.task.batch(indices, 3), other.task.batch(indices, 3)
    inputs = "inputs" if kind == "language_model" else "ids"
    assert torch.equal(getattr(first, inputs), getattr(second, inputs))
    assert first.packing.lengths == tuple(sorted(first.packing.lengths))


@pytest.mark.parametrize("kind", ["classification", "tagging", "relevance"])
def test_every_example_is_read_once_an_epoch(tmp_path: Path, kind: str) -> None:
    task = prepared(tmp_path, kind).task
    for epoch in (0, 1):
        assert sorted(np.concatenate(task.round(epoch)).tolist()) == list(range(len(task.train)))


@pytest.mark.parametrize("kind", ["masked_lm", "language_model"])
@pytest.mark.parametrize("tokens", [1, 60, 400])
def test_a_batch_of_texts_holds_the_pieces_that_are_asked_for(tmp_path: Path, kind: str, tokens: int) -> None:
    """However short the documents: no batch is over, and with the example behind it each would be."""
    task = prepared(tmp_path, kind, tokens=tokens).task
    lengths = [task.batch(np.array([i]), 0).packing.lengths[0] for i in range(len(task.drawn.examples(0)))]
    batches = task.round(0)
    assert np.concatenate(batches).tolist() == list(range(len(lengths)))
    for indices, following in pairwise(batches):
        held = sum(lengths[i] for i in indices)
        unsure = len(indices) + 1 if kind == "language_model" else 0  # whether a document ends behind a block
        assert held <= tokens or len(indices) == 1
        assert held + lengths[following[0]] + unsure > tokens


def test_pairs_are_compared_with_their_own_rivals(tmp_path: Path) -> None:
    """Whatever their lengths: loss = Σ log(1 + e^(s₋ - s₊)) over pairs that are read one by one."""
    made = prepared(tmp_path, "relevance", loss="pairwise")
    task: Any = made.task
    vocabulary = made.vocabularies[0]
    for place, one in enumerate(task.judgements):  # documents of many lengths, the relevant ones last of all
        document = f"{one.document} film" + " story" * (place * 7 % 11 + 12 * (one.label > 0))
        task.train[place] = encode(vocabulary, [(one.query, document)], 48)[0]
    model = made.config.build(made.vocabularies).eval()
    torch.nn.init.normal_(model.head.weight, std=3.0)  # type: ignore[union-attr]
    chosen = task.round(0)[0]
    with torch.no_grad():
        found = task.losses(model, task.batch(chosen, 0))["loss"]

        def score(example: int) -> float:
            return float(read(model, pack([task.train[example]])))  # type: ignore[arg-type]

        rivals = [task._rival(int(index), 0) for index in chosen]
        better, worse = ([score(int(i)) for i in some] for some in (chosen, rivals))
    expected = sum(math.log1p(math.exp(b - a)) for a, b in zip(better, worse, strict=True))
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_whether_a_sentence_follows_is_said_as_in_berts_own_weights(tmp_path: Path) -> None:
    """0 where it does (Devlin et al. 2019's released code), and the loss of either part counts by its weight."""
    made = prepared(tmp_path, "masked_lm", mlm=0.25, nsp=3.0)
    task: Any = made.task
    chosen = task.round(0)[0]
    examples = task.drawn.examples(0)
    batch = task.batch(chosen, 0)
    order = sorted(chosen, key=lambda i: len(task.sequences.read(examples[i])))
    assert batch.targets["follows"].tolist() == [0 if examples[i].follows else 1 for i in order]
    assert len(set(batch.targets["follows"].tolist())) == 2
    model = made.config.build(made.vocabularies).eval()
    with torch.no_grad():
        terms = task.losses(model, batch)
    assert float(terms["mlm"]) == pytest.approx(0.25 * float(terms["mlm_nll"]), rel=1e-5)
    assert float(terms["nsp"]) == pytest.approx(3.0 * float(terms["nsp_nll"]), rel=1e-5)


def test_only_masked_pieces_are_learned_from(tmp_path: Path) -> None:
    """The loss is that of the masked positions written plainly, and of the pairs."""
    made = prepared(tmp_path, "masked_lm", nsp=0.5)
    model = made.config.build(made.vocabularies).eval().double()
    batch = made.task.batch(made.task.round(0)[0], 0)
    hidden = model.encoder(batch.ids, batch.packing, batch.segments)
    log_p = model.logits(hidden).log_softmax(-1)
    wanted = -log_p[batch.targets["places"], batch.targets["pieces"]].sum()
    terms = made.task.losses(model, batch)
    torch.testing.assert_close(terms["mlm"].double(), wanted, rtol=1e-5, atol=1e-4)
    pairs = model.next_sentence_logits(hidden, batch.packing).log_softmax(-1)
    nsp = -pairs[torch.arange(len(pairs)), batch.targets["follows"]].sum()
    torch.testing.assert_close(terms["nsp"].double(), 0.5 * nsp, rtol=1e-5, atol=1e-4)
    masked = batch.ids == made.vocabularies[0].mask
    assert set(masked.nonzero()[:, 0].tolist()) <= set(batch.targets["places"].tolist())
    assert 0.6 < masked.sum() / len(batch.targets["places"]) < 0.95


def test_perplexity_is_that_of_every_piece_read_from_its_document(tmp_path: Path) -> None:
    """Blocks as long as the documents: the same sum as each document alone, its end counted."""
    made = prepared(tmp_path, "language_model", length=12)
    recipe = content(tmp_path, "language_model", length=200, tokens=2000)
    recipe["model"] = {**recipe["model"], "max_length": 200}
    whole = recipes.parse(recipe, "test").prepare(None, tmp_path / "cache", lambda _: None, progress=False)
    vocabulary = whole.vocabularies[0]
    model = whole.config.build(whole.vocabularies).eval().requires_grad_(False)
    total, count, every = 0.0, 0, []
    for text in (tmp_path / "dev").read_text().split("\n\n"):
        ids = [piece for line in text.splitlines() for piece in vocabulary.encode(line)]
        every += [vocabulary.begin, *ids]
        inputs, outputs = torch.tensor([vocabulary.begin, *ids]), torch.tensor([*ids, vocabulary.end])
        logits = model.decoder.output(model(inputs, Packing.of([len(inputs)]))).double().log_softmax(-1)
        total -= float(logits[torch.arange(len(outputs)), outputs].sum())
        count += len(outputs)
    found = whole.task.evaluate(model, lambda: torch.autocast("cpu", enabled=False))
    assert found.metrics["nll"] == pytest.approx(total / count, rel=1e-4)
    # shorter blocks read the same, each piece once: one that begins inside a document begins with the piece before
    blocks = [made.task.dev.batch([one]) for one in made.task.dev_examples]
    assert len(blocks) > 2 * (tmp_path / "dev").read_text().count("\n\n")
    assert torch.cat([one.inputs for one in blocks]).tolist() == every
    assert sum(one.tokens for one in blocks) == count


@pytest.mark.parametrize("kind", ["masked_lm", "language_model"])
def test_examples_of_a_document_do_not_stand_together(tmp_path: Path, kind: str) -> None:
    drawn = prepared(tmp_path, kind, length=12).task.drawn
    firsts = [one.first[0] for one in drawn.examples(0)]
    after = [start == before for (_, before), (start, _) in pairwise(firsts)]
    assert len(firsts) > 100
    assert sum(after) < 0.1 * len(after)


@pytest.mark.parametrize("kind", ["tagging", "masked_lm"])
def test_a_run_goes_on_to_the_same_weights(tmp_path: Path, kind: str) -> None:
    class Stopping(Silent):
        def step(self, update: int, record: dict[str, float]) -> None:
            if update == 7:
                raise KeyboardInterrupt

    settings = {"updates": 12, "evaluate_every": 3}
    train(small_task(tmp_path, kind, **settings), tmp_path / "whole", reporter=Silent())
    with pytest.raises(KeyboardInterrupt):
        train(small_task(tmp_path, kind, **settings), tmp_path / "cut", reporter=Stopping())
    train(small_task(tmp_path, kind, **settings), tmp_path / "cut", reporter=Silent(), resume=True)
    one, two = (folder.read_weights(tmp_path / name / folder.WEIGHTS) for name in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_random_features_are_kept_with_the_model(tmp_path: Path) -> None:
    """Not trained, drawn anew twice on the way, and those of the last pass are the folder's."""
    recipe = content(tmp_path, "language_model", updates=7, evaluate_every=7)
    favor = {"kind": "linear", "features": "favor", "size": 24, "redraw": 3}
    recipe["model"] = {**recipe["model"], "attention": favor}
    train(recipes.parse(recipe, "test"), tmp_path / "run", reporter=Silent())
    tensors = folder.read_weights(tmp_path / "run" / folder.WEIGHTS)
    name = "decoder.layers.0.attention.form.features."
    assert float(tensors[name + "passes"]) == 7
    assert 10 < float(tensors[name + "omega"].square().sum(1).mean()) < 24  # a head is 16 wide
    model = folder.load(tmp_path / "run").model
    loaded = dict(model.named_parameters())[name + "omega"]
    assert torch.equal(loaded, tensors[name + "omega"])
    assert not loaded.requires_grad


def test_a_base_gives_its_encoder_and_vocabulary(tmp_path: Path) -> None:
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
    train(small_task(tmp_path / "base", "masked_lm", updates=2), tmp_path / "bert", reporter=Silent())
    recipe = content(tmp_path / "tuned", "tagging", updates=1, learning_rate=1e-12)
    recipe |= {"base": str(tmp_path / "bert")}
    del recipe["model"], recipe["vocabulary"]
    heard = Heard()
    train(recipes.parse(recipe, "test"), tmp_path / "tagger", reporter=heard)
    one, two = (folder.read_weights(tmp_path / name / folder.WEIGHTS) for name in ("bert", "tagger"))
    shared = [name for name in two if name.startswith("encoder.")]
    assert len(shared) > 10
    for name in shared:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-8)
    assert any("fresh: head" in line for line in heard.lines)
    vocabularies = [folder.read_vocabularies(tmp_path / name)[0] for name in ("bert", "tagger")]
    assert vocabularies[0].fingerprint == vocabularies[1].fingerprint


def test_words_that_a_base_has_no_piece_for_are_no_data(tmp_path: Path) -> None:
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
    train(small_task(tmp_path / "base", "masked_lm", updates=1), tmp_path / "bert", reporter=Silent())
    recipe = content(tmp_path / "tuned", "tagging")
    del recipe["model"], recipe["vocabulary"]
    (tmp_path / "tuned" / "train").write_text("\u200b\tB-PER\n", encoding="utf-8")
    (tmp_path / "tuned" / "dev").write_text("Anna\tB-PER\n", encoding="utf-8")
    with pytest.raises(KotyaError, match="train: the vocabulary has no piece for any word in it"):
        train(
            recipes.parse(recipe | {"base": str(tmp_path / "bert")}, "test"),
            tmp_path / "run",
            reporter=Silent(),
        )


def test_a_base_is_extended_to_longer_texts(tmp_path: Path) -> None:
    """Learned positions are repeated, projections of global positions are copies, and long texts are read."""
    for name in ("base", "long"):
        (tmp_path / name).mkdir()
    train(small_task(tmp_path / "base", "masked_lm", updates=2), tmp_path / "bert", reporter=Silent())
    recipe = content(tmp_path / "long", "classification", updates=1, learning_rate=1e-12)
    del recipe["model"], recipe["vocabulary"]
    pattern = {"kind": "any", "of": [{"kind": "window", "left": 20, "right": 20}, {"kind": "global"}]}
    extend = {"max_length": 110, "attention": pattern, "global_projections": True}
    recipe |= {"base": str(tmp_path / "bert"), "extend": extend}
    long = " ".join(["lovely"] * 100)
    (tmp_path / "long" / "dev").write_text(f"good\t{long}\nbad\tawful\n", encoding="utf-8")
    train(recipes.parse(recipe, "test"), tmp_path / "run", reporter=Silent())
    base, run = (folder.read_weights(tmp_path / name / folder.WEIGHTS) for name in ("bert", "run"))
    known, positions = (x["encoder.embedding.positions.weight"] for x in (base, run))
    assert len(positions) == 110
    repeated = known.repeat(3, 1)[:110]
    torch.testing.assert_close(positions, repeated, rtol=0, atol=1e-8)
    wide = run["encoder.layers.0.attention.wide.key.weight"]
    torch.testing.assert_close(wide, base["encoder.layers.0.attention.key.weight"], rtol=0, atol=1e-8)
    for changed, message in (
        ({"max_length": 9}, "reads 48 tokens already"),
        ({"attention": ["full", "full", "full"]}, "one for all, or one a layer"),
    ):
        made = recipes.parse(recipe | {"extend": extend | changed}, "test")
        with pytest.raises(KotyaError, match=message):
            train(made, tmp_path / "other", reporter=Silent())


def test_a_head_is_taken_over_where_its_labels_are_the_same_in_the_same_order(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    train(small_task(tmp_path / "first", "classification", updates=2), tmp_path / "run", reporter=Silent())
    config = folder.read_config(tmp_path / "run")
    assert config.labels == ["bad", "good"]  # type: ignore[attr-defined]
    model = config.build(folder.read_vocabularies(tmp_path / "run"))
    for labels, taken in ((["bad", "good"], True), (["good", "bad"], False), (["no", "yes"], False)):
        mine = config.model_copy(update={"labels": labels})
        found = folder.base_weights(model, tmp_path / "run", mine)
        assert ("head.weight" in found) == taken
        assert any(name.startswith("encoder.") for name in found)


def test_pairs_of_one_document_are_refused_in_dev_too(tmp_path: Path) -> None:
    recipe = content(tmp_path, "masked_lm", updates=1, nsp=1.0)
    (tmp_path / "dev").write_text("film story\nmusic scene\n", encoding="utf-8")
    with pytest.raises(KotyaError, match=r"dev: one document, where next-sentence"):
        train(recipes.parse(recipe, "test"), tmp_path / "run", reporter=Silent())


def test_a_vocabulary_without_a_mask_is_for_language_models(tmp_path: Path) -> None:
    Vocabulary.learn(lambda: ["film story music"] * 3, 300).save(tmp_path / "mine.json")
    recipe = content(tmp_path, "language_model", updates=1) | {"vocabulary": {"file": "mine.json"}}
    train(recipes.parse(recipe, "test"), tmp_path / "run", reporter=Silent())
    assert folder.read_vocabularies(tmp_path / "run")[0].mask is None
    recipe = content(tmp_path, "masked_lm", updates=1) | {"vocabulary": {"file": "mine.json"}}
    with pytest.raises(KotyaError, match=r"mine\.json: no vocabulary of an encoder"):
        train(recipes.parse(recipe, "test"), tmp_path / "bert", reporter=Silent())


def test_what_linformer_learned_for_its_longest_text_is_not_extended(tmp_path: Path) -> None:
    for name in ("base", "long"):
        (tmp_path / name).mkdir()
    settings = content(tmp_path / "base", "masked_lm", updates=1)
    settings["model"] |= {"attention": "linformer"}
    train(recipes.parse(settings, "test"), tmp_path / "bert", reporter=Silent())
    recipe = content(tmp_path / "long", "classification", updates=1)
    del recipe["model"], recipe["vocabulary"]
    recipe |= {"base": str(tmp_path / "bert"), "extend": {"max_length": 110}}
    with pytest.raises(KotyaError, match="learned for 48 positions"):
        train(recipes.parse(recipe, "test"), tmp_path / "run", reporter=Silent())


def test_an_extended_longformer_stays_what_it_was(tmp_path: Path) -> None:
    """Its windows, its projections of global positions and their weights; from the recipe in the folder, too."""
    attention = [{"kind": "any", "of": [{"kind": "window", "left": 3, "right": 3}, "global"]}]
    longformer = {"attention": attention, "global_projections": True}
    for name in ("base", "long"):
        (tmp_path / name).mkdir()
    settings = content(tmp_path / "base", "masked_lm", updates=1)
    settings["model"] |= longformer
    train(recipes.parse(settings, "test"), tmp_path / "bert", reporter=Silent())
    recipe = content(tmp_path / "long", "classification", updates=1, learning_rate=1e-12)
    del recipe["model"], recipe["vocabulary"]
    recipe |= {"base": str(tmp_path / "bert"), "extend": {"max_length": 110}}
    train(recipes.parse(recipe, "test"), tmp_path / "run", reporter=Silent())
    before, after = (folder.read_config(tmp_path / name).model for name in ("bert", "run"))  # type: ignore[attr-defined]
    assert after == before.model_copy(update={"max_length": 110})
    base, run = (folder.read_weights(tmp_path / name / folder.WEIGHTS) for name in ("bert", "run"))
    known, positions = (x["encoder.embedding.positions.weight"] for x in (base, run))
    torch.testing.assert_close(positions, known.repeat(3, 1)[:110], rtol=0, atol=1e-8)
    layers = [name for name in base if name.startswith("encoder.layers.")]
    assert any(".wide." in name for name in layers)
    for name in layers:
        torch.testing.assert_close(run[name], base[name], rtol=0, atol=1e-8)
    again = recipes.read(tmp_path / "run" / "recipe.yaml")
    assert again.extend == recipes.parse(recipe, "test").extend  # type: ignore[attr-defined]
    extend = {"max_length": 110, "attention": "linear"}
    with pytest.raises(
        KotyaError, match="cannot be extended so: global_projections: no layer attends by a pattern"
    ):
        train(recipes.parse(recipe | {"extend": extend}, "test"), tmp_path / "other", reporter=Silent())
    made = recipes.parse(recipe | {"extend": extend | {"global_projections": False}}, "test")
    train(made, tmp_path / "other", reporter=Silent())
    assert not any(".wide." in name for name in folder.read_weights(tmp_path / "other" / folder.WEIGHTS))


def test_a_base_that_is_none(tmp_path: Path) -> None:
    write_model(tmp_path / "translator")
    recipe = content(tmp_path, "tagging")
    del recipe["model"], recipe["vocabulary"]
    for base, message in (
        ("translator", "a model of the task translation"),
        ("nowhere", "no such model folder"),
    ):
        with pytest.raises(KotyaError, match=message):
            train(
                recipes.parse(recipe | {"base": str(tmp_path / base)}, "test"),
                tmp_path / "run",
                reporter=Silent(),
            )
    with pytest.raises(KotyaError, match="brings its own"):
        recipes.parse(recipe | {"base": "x", "model": "bert-tiny"}, "test")
    with pytest.raises(KotyaError, match="what to start from is missing"):
        recipes.parse(recipe, "test")
