"""Several adapters over one base: each answers as it does alone, in one batch where their places allow it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import kotya
from kotya import folder as folders
from kotya.errors import Fault, KotyaError
from kotya.inference.adapted import Adapters
from kotya.inference.classifier import Classifier
from kotya.inference.ranker import Ranker
from kotya.inference.shared_encoder import SharedEncoder
from kotya.inference.tagger import Tagger
from kotya.training.merging import merge
from tuned_adapters import LORA, PAIRS, TEXTS, make_tuned, tuned


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapting")
    make_tuned(folder)
    return folder


def test_one_base_many_tasks_one_batch(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SharedEncoder._outputs
    names = ["classification-lora", "relevance-houlsby", "regression-lora"]
    models = kotya.load(made / "bert", adapters=[made / name for name in names])
    assert isinstance(models, Adapters)
    assert list(models) == names
    requests: list[tuple[str, Any]] = [
        (names[0], TEXTS[0]),
        (names[1], PAIRS[0]),
        (names[2], PAIRS[1]),
        (names[0], TEXTS[2]),
        (names[1], PAIRS[1]),
    ]
    batches = []
    monkeypatch.setattr(
        SharedEncoder, "_outputs", lambda self, batch, rows: batches.append(rows) or whole(self, batch, rows)
    )
    answers = list(models.answer(requests))
    assert [sorted(rows) for rows in batches] == [sorted(name for name, _ in requests)]
    alone = {name: kotya.load(made / name) for name in names}
    first, ranker, numbers = (alone[name] for name in names)
    assert isinstance(first, Classifier)
    assert isinstance(ranker, Ranker)
    assert isinstance(numbers, Classifier)
    for answer, text in ((answers[0], TEXTS[0]), (answers[3], TEXTS[2])):
        assert answer.probabilities == pytest.approx(first.classify(text).probabilities, abs=1e-5)
    scores = list(ranker.score(PAIRS))
    assert [answers[1], answers[4]] == pytest.approx(scores, abs=1e-5)
    assert answers[2].number == pytest.approx(numbers.classify(PAIRS[1]).number, abs=1e-5)
    own = models[names[0]]
    assert isinstance(own, Classifier)
    assert own.classify(TEXTS[1]).probabilities == pytest.approx(
        first.classify(TEXTS[1]).probabilities, abs=1e-5
    )
    with pytest.raises(KotyaError, match="there is no adapter 'other' here"):
        list(models.answer([("other", "text")]))


def test_names_of_folders_and_how_the_base_is_held_are_each_adapters_own(made: Path, tmp_path: Path) -> None:
    for name in ("v1.0", "train"):
        shutil.copytree(made / "relevance-houlsby", tmp_path / name)
    rounded = shutil.copytree(made / "classification-lora", tmp_path / "int8")
    settings = json.loads((rounded / "config.json").read_text(encoding="utf-8"))
    settings["adapter"]["adapt"]["held"] = "int8"
    (rounded / "config.json").write_text(json.dumps(settings), encoding="utf-8")

    alone = kotya.load(made / "relevance-houlsby")
    assert isinstance(alone, Ranker)
    expected = next(iter(alone.score(PAIRS[:1])))
    models = kotya.load(made / "bert", adapters=[tmp_path / "v1.0", tmp_path / "train"])
    assert list(models.answer([("train", PAIRS[0]), ("v1.0", PAIRS[0])])) == pytest.approx(
        [expected] * 2, abs=1e-5
    )
    models = kotya.load(made / "bert", adapters=[tmp_path / "train", rounded])
    assert list(models.answer([("train", PAIRS[0])])) == pytest.approx([expected], abs=1e-7)


def test_adapters_whose_places_overlap_are_grouped(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    everywhere = tuned(tmp_path, made / "bert", "classification", LORA | {"targets": ["attention.*"]})
    paths = [everywhere, made / "relevance-houlsby"]
    ranks, sorts = paths[1].name, everywhere.name
    for some in (paths, paths[::-1]):
        models = kotya.load(made / "bert", adapters=some)
        first, label, second = models.answer([(ranks, PAIRS[0]), (sorts, TEXTS[0]), (ranks, PAIRS[1])])
        ranker, classifier = kotya.load(paths[1]), kotya.load(everywhere)
        assert isinstance(ranker, Ranker)
        assert isinstance(classifier, Classifier)
        assert [first, second] == pytest.approx(list(ranker.score(PAIRS)), abs=1e-6)
        assert label.probabilities == pytest.approx(classifier.classify(TEXTS[0]).probabilities, abs=1e-6)


def test_an_adapter_that_is_no_number_is_refused_alone_and_beside_others(made: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(made / "classification-lora", tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    name = next(name for name in tensors if name.endswith(".up"))
    tensors[name][0, 0] = float("nan")
    folders.save_weights(broken / "model.safetensors", tensors)
    opened = [
        lambda: kotya.load(broken, base=made / "bert"),
        lambda: kotya.load(made / "bert", adapters=[broken, made / "relevance-houlsby"]),
        lambda: merge([(broken, 1.0)], tmp_path / "whole", base=made / "bert"),
    ]
    for one in opened:
        with pytest.raises(Fault, match="is not a number"):
            one()
    assert not (tmp_path / "whole").exists()


def test_what_overflows_is_refused_alone_and_beside_others(made: Path, tmp_path: Path) -> None:
    """The weights are numbers; what comes of them is none."""
    broken = shutil.copytree(made / "classification-lora", tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    grown = {name: tensor * 1e30 for name, tensor in tensors.items()}
    folders.save_weights(broken / "model.safetensors", grown)
    classifier = kotya.load(broken, base=made / "bert")
    assert isinstance(classifier, Classifier)
    with pytest.raises(Fault, match="what the model predicts is not a number"):
        classifier.classify(TEXTS[0])
    models = kotya.load(made / "bert", adapters=[broken, made / "relevance-houlsby"])
    assert isinstance(models, Adapters)
    with pytest.raises(Fault, match="what the model predicts is not a number"):
        list(models.answer([("broken", TEXTS[0]), ("relevance-houlsby", PAIRS[0])]))


def test_a_tagger_shares_batches_too(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its adapter stands at every place that it finds: the pooler is the classifier's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    tagger = tuned(made, made / "bert", "tagging", LORA | {"targets": ["encoder"]})
    alone, classifier = kotya.load(tagger), kotya.load(made / "classification-lora")
    assert isinstance(alone, Tagger)
    assert isinstance(classifier, Classifier)
    long = "Anna film Bonn " * 30 + "Boris Oslo"
    asked = [("tagging-lora", "Anna saw Bonn"), ("classification-lora", TEXTS[0]), ("tagging-lora", long)]
    asked.append(("tagging-lora", ""))
    models = kotya.load(made / "bert", adapters=[tagger, made / "classification-lora"])
    assert isinstance(models, Adapters)
    with pytest.raises(KotyaError, match="this model reads single texts, not 'which film"):
        list(models.answer([("tagging-lora", PAIRS[0])]))
    assert models._shared is not None
    by_itself = models["tagging-lora"]
    assert isinstance(by_itself, Tagger)
    *found, again = [*models.answer(asked), by_itself.find(long)]
    for (name, text), answer in zip([*asked, asked[2]], [*found, again], strict=True):
        if name == "classification-lora":
            assert answer.probabilities == pytest.approx(classifier.classify(text).probabilities, abs=1e-5)
            continue
        expected = alone.find(text)
        assert len(expected) == len(re.findall(r"\b(Anna|Boris|Bonn|Oslo)\b", text))
        places = [(one.label, one.start, one.stop) for one in expected]
        assert [(one.label, one.start, one.stop) for one in answer] == places
        sure = [one.probability for one in expected]
        assert [one.probability for one in answer] == pytest.approx(sure, abs=1e-5)


def test_adapters_that_cannot_share_a_batch_are_asked_one_by_one(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    plan = {"kind": "lora", "rank": 2, "targets": ["encoder.embedding"]}
    words = tuned(tmp_path, made / "bert", "regression", plan)
    models = kotya.load(made / "bert", adapters=[words, made / "relevance-houlsby"])
    assert isinstance(models, Adapters)
    assert models._shared is None
    number, score = models.answer([(words.name, PAIRS[1]), ("relevance-houlsby", PAIRS[0])])
    alone, ranker = kotya.load(words), kotya.load(made / "relevance-houlsby")
    assert isinstance(alone, Classifier)
    assert isinstance(ranker, Ranker)
    assert number == alone.classify(PAIRS[1])
    assert score == next(iter(ranker.score(PAIRS[:1])))
