"""Adapters from a recipe to answers: trained, kept, resumed, used side by side, merged, refused."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import kotya
from kotya import folder as folders
from kotya import recipe as recipes
from kotya.adapt.attach import own
from kotya.adapt.place import places
from kotya.cli.main import run as command
from kotya.errors import KotyaError
from kotya.inference.benchmark import training_step
from kotya.inference.classifier import Classifier
from kotya.inference.evaluation import evaluate_task
from kotya.inference.loading import load_translator
from kotya.inference.translator import Translator
from kotya.training.averaging import average
from kotya.training.checkpoint import list_checkpoints
from kotya.training.loop import Loop, Outcome
from kotya.training.merging import merge
from kotya.training.progress import Silent
from kotya.training.run import train
from tiny_tasks import content, documents, small_task
from training_corpus import content as parallel
from training_corpus import sentences, write
from tuned_adapters import HOULSBY, LORA, TEXTS, make_tuned, on_base, tuned


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapting")
    make_tuned(folder)
    return folder


def test_the_folder_holds_what_the_base_has_not_and_names_it(made: Path) -> None:
    run, base = made / "classification-lora", load_file(made / "bert" / "model.safetensors")
    kept = load_file(run / "model.safetensors")
    assert {name.partition(".parts.")[0].rpartition(".")[2] for name in kept if ".parts." in name} == {
        "query",
        "value",
    }
    assert set(kept) & set(base) == {"head.weight", "head.bias"}
    assert {name for name in kept if ".parts." not in name} == {"head.weight", "head.bias"}
    assert not (run / "tokenizer.json").exists()
    told = json.loads((run / "config.json").read_text(encoding="utf-8"))["adapter"]
    assert told["base"] == "../bert"
    assert told["adapt"]["rank"] == 4
    assert all(tensor.dtype == torch.float32 for tensor in kept.values())


@pytest.mark.parametrize("adapt", [LORA, HOULSBY])
def test_after_the_loop_the_frozen_weights_are_those_of_the_base(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapt: dict[str, Any]
) -> None:
    """In the model that was trained: the folder does not hold them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    models = []

    def watched(loop: Loop) -> Outcome:
        models.append(loop.model)
        return trained(loop)

    trained = Loop.train
    monkeypatch.setattr(Loop, "train", watched)
    plan = on_base(
        content(tmp_path, "classification", updates=4, evaluate_every=2, weight_decay=0.1),
        made / "bert",
        adapt,
    )
    train(recipes.parse(plan, "test"), tmp_path / "run", reporter=Silent())
    base = load_file(made / "bert" / "model.safetensors")
    (model,) = models
    live = {name.replace(".base.", "."): one.detach() for name, one in model.named_parameters()}
    encoder = {name for name in base if name.startswith("encoder.")}
    assert encoder <= live.keys()
    assert not any(
        one.requires_grad for name, one in model.named_parameters() if name.replace(".base.", ".") in encoder
    )
    assert all(torch.equal(base[name], live[name]) for name in encoder)
    learned = own(model, fresh=["head.weight", "head.bias"])
    stored = load_file(tmp_path / "run" / "model.safetensors")
    assert stored.keys() == learned.keys()
    assert all(torch.equal(stored[name], one) for name, one in learned.items())
    assert all(one.any() for name, one in learned.items() if name.endswith((".up", ".up.weight")))


def test_it_learns(made: Path) -> None:
    metrics = [
        json.loads(line)["dev"]
        for line in (made / "classification-lora" / "metrics.jsonl").read_text().splitlines()
        if "dev" in line
    ]
    assert max(one["accuracy"] for one in metrics) > 85


def test_merged_it_is_a_whole_model_with_the_same_answers(made: Path, tmp_path: Path) -> None:
    run = made / "classification-lora"
    merge([(run, 1.0)], tmp_path / "whole")
    assert not any(".parts." in name for name in load_file(tmp_path / "whole" / "model.safetensors"))
    shutil.copytree(tmp_path / "whole", tmp_path / "moved")
    one, other = kotya.load(tmp_path / "moved"), kotya.load(run)
    assert isinstance(one, Classifier)
    assert isinstance(other, Classifier)
    assert not places(other.model)  # for use its layers are changed, and stand alone
    for text in TEXTS:
        assert one.classify(text).probabilities == pytest.approx(other.classify(text).probabilities, abs=1e-5)
    with pytest.raises(KotyaError, match="a bottleneck is a layer of its own"):
        merge([(made / "relevance-houlsby", 1.0)], tmp_path / "no")
    with pytest.raises(KotyaError, match="only LoRAs of one task add up"):
        merge([(run, 0.5), (made / "relevance-houlsby", 0.5)], tmp_path / "no")
    with pytest.raises(KotyaError, match="weights of their own"):
        merge([(run, 0.5), (run, 0.5)], tmp_path / "no")
    with pytest.raises(KotyaError, match="a whole model, no adapter"):
        merge([(made / "bert", 1.0)], tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_lora_that_would_weigh_too_much_is_not_merged(
    translator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(translator / "cache"))
    plan = on_base(
        parallel(translator, updates=2, evaluate_every=2), translator / "general", {"kind": "lora"}
    )
    train(recipes.parse(plan, "test"), tmp_path / "domain", reporter=Silent())
    with pytest.raises(KotyaError, match=r"domain: .* no number any more: the adapter weighs too much"):
        merge([(tmp_path / "domain", 1e40)], tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_what_is_merged_is_whole_where_the_base_was_held_in_int8(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    plan = on_base(
        content(tmp_path, "classification", updates=2, evaluate_every=2),
        made / "bert",
        LORA | {"held": "int8"},
    )
    train(recipes.parse(plan, "test"), tmp_path / "held=int8", reporter=Silent())
    assert command(["merge", str(tmp_path / "held=int8"), "--output", str(tmp_path / "whole")]) == 0
    whole, held = kotya.load(tmp_path / "whole"), kotya.load(tmp_path / "held=int8")
    assert isinstance(whole, Classifier)
    assert isinstance(held, Classifier)
    assert whole.classify(TEXTS[0]).probabilities == pytest.approx(
        held.classify(TEXTS[0]).probabilities, abs=0.05
    )


def test_a_refused_resume_leaves_the_run_as_it_was(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    plan = on_base(content(tmp_path, "classification", updates=2, evaluate_every=2), made / "bert", LORA)
    run = tmp_path / "run"
    train(recipes.parse(plan, "test"), run, reporter=Silent())
    shutil.copytree(made / "bert", tmp_path / "other")
    tensors = load_file(tmp_path / "other" / "model.safetensors")
    folders.save_weights(
        tmp_path / "other" / "model.safetensors", {name: one + 1 for name, one in tensors.items()}
    )
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for base, message in (("nowhere", "there is no model"), ("other", "an adapter for another base")):
        with pytest.raises(KotyaError, match=message):
            train(
                recipes.parse(plan | {"base": str(tmp_path / base)}, "test"),
                run,
                reporter=Silent(),
                resume=True,
            )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_folder_holds_nothing_of_the_base_and_only_numbers(made: Path, tmp_path: Path) -> None:
    adapter, weights = made / "classification-lora", load_file(made / "classification-lora/model.safetensors")
    key = "encoder.layers.0.attention.key.weight"
    up = next(name for name in weights if name.endswith(".up"))
    cases = {
        "key": ({key: load_file(made / "bert" / "model.safetensors")[key]}, f"no weight '{key}'"),
        "whole": ({up: weights[up].long()}, f"{up} is of torch.int64"),
        "complex": ({up: weights[up].to(torch.complex64)}, f"{up} is of torch.complex64"),
    }
    for name, (changed, message) in cases.items():
        shutil.copytree(adapter, tmp_path / name)
        save_file(weights | changed, tmp_path / name / "model.safetensors")
        with pytest.raises(KotyaError, match=re.escape(message)):
            kotya.load(tmp_path / name, base=made / "bert")


def test_an_adapter_is_no_base_of_its_own(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "classification-lora", tmp_path / "adapter")
    file = tmp_path / "adapter" / "config.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    told["adapter"]["base"] = "."
    file.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(KotyaError, match="an adapter, where a whole model is needed"):
        kotya.load(tmp_path / "adapter")


def test_another_base_is_refused_and_a_moved_one_is_found_again(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "classification-lora", tmp_path / "adapter")
    with pytest.raises(KotyaError, match="say where: --base"):
        kotya.load(tmp_path / "adapter")
    model = kotya.load(tmp_path / "adapter", base=made / "bert")
    assert isinstance(model, Classifier)
    assert model.classify(TEXTS[0]).label in ("good", "bad")
    shutil.copytree(made / "bert", tmp_path / "other")
    tensors = load_file(tmp_path / "other" / "model.safetensors")
    tensors["encoder.embedding.tokens"][0, 0] += 1
    folders.save_weights(tmp_path / "other" / "model.safetensors", tensors)
    with pytest.raises(KotyaError, match="an adapter for another base"):
        kotya.load(tmp_path / "adapter", base=tmp_path / "other")
    with pytest.raises(KotyaError, match="an adapter for another base"):
        kotya.load(tmp_path / "other", adapters=[tmp_path / "adapter"])
    shutil.copytree(
        made / "bert", tmp_path / "swapped"
    )  # the same weights, and two pieces that changed places
    file = tmp_path / "swapped" / "tokenizer.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    pieces = written["model"]["vocab"]
    one, other = list(pieces)[-2:]
    pieces[one], pieces[other] = pieces[other], pieces[one]
    file.write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(KotyaError, match=r"weights or vocabulary of .* are not those it was made for"):
        kotya.load(tmp_path / "adapter", base=tmp_path / "swapped")
    with pytest.raises(KotyaError, match="a whole model, no adapter"):
        kotya.load(made / "bert", adapters=[made / "bert"])
    with pytest.raises(KotyaError, match=r"a whole model; --base .* is for an adapter's"):
        kotya.load(made / "bert", base=made / "bert")
    with pytest.raises(KotyaError, match="is the base of the adapters"):
        kotya.load(made / "bert", adapters=[made / "classification-lora"], base=made / "bert")  # type: ignore[call-overload]
    with pytest.raises(KotyaError, match="adapters are of one base"):
        kotya.load([made / "bert", made / "bert"], adapters=[made / "classification-lora"])  # type: ignore[call-overload]
    with pytest.raises(KotyaError, match=r"a whole model; --base .* is for an adapter's"):
        evaluate_task(made / "bert", None, "dev", str, base=made / "bert", device="cpu", precision="float32")
    with pytest.raises(KotyaError, match="an adapter, where a whole model is needed"):
        tuned(tmp_path, made / "classification-lora", "classification", LORA)


def test_a_stopped_run_ends_with_the_same_weights(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    shutil.copytree(made / "bert", tmp_path / "base")
    plan = on_base(
        content(tmp_path, "classification", updates=30, evaluate_every=10),
        tmp_path / "base",
        LORA | {"dropout": 0.1},
    )
    whole = recipes.parse(plan, "test")
    plan["training"]["minutes"] = 1e-6
    halted = recipes.parse(plan, "test")
    train(whole, tmp_path / "whole", reporter=Silent())
    train(halted, tmp_path / "halted", reporter=Silent(), resume=True)
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(KotyaError, match="where there is no model"):
        train(halted, tmp_path / "halted", reporter=Silent(), resume=True)
    halted, rest = (one.model_copy(update={"base": tmp_path / "moved"}) for one in (halted, whole))
    for _ in range(2):
        train(halted, tmp_path / "halted", reporter=Silent(), resume=True)
    train(rest, tmp_path / "halted", reporter=Silent(), resume=True)
    assert kotya.load(tmp_path / "halted").classify("great").label in ("good", "bad")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "halted"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    average([tmp_path / "halted"], tmp_path / "mean", last=2)
    mean = load_file(tmp_path / "mean" / "model.safetensors")
    last = [load_file(path / "model.safetensors") for path in list_checkpoints(tmp_path / "halted")[-2:]]
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (last[0][name] + last[1][name]) / 2)
    assert kotya.load(tmp_path / "mean").classify("great").label in ("good", "bad")
    with pytest.raises(KotyaError, match="a LoRA of another run"):
        average([tmp_path / "halted", tmp_path / "whole"], tmp_path / "other")


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A corpus, and a translator trained on it a little."""
    folder = tmp_path_factory.mktemp("domains")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        write(folder, "train", sentences(200, 1))
        write(folder, "dev", sentences(20, 2))
        plan = parallel(folder, updates=20) | {"search": {"beam": 2}}
        train(recipes.parse(plan, "test"), folder / "general", reporter=Silent())
        yield folder


def test_an_adapter_that_would_train_nothing_is_refused(
    translator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(translator / "cache"))
    plan = on_base(parallel(translator, updates=2), translator / "general", {"kind": "head"})
    with pytest.raises(KotyaError, match="nothing would be trained"):
        train(recipes.parse(plan, "test"), tmp_path / "run", reporter=Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("adapt", [None, LORA, HOULSBY, {"kind": "lora", "rank": 2, "held": "int8"}])
def test_a_translator_is_tuned_to_a_domain(
    translator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapt: dict[str, Any] | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(translator / "cache"))
    plan = on_base(
        parallel(translator, updates=30, evaluate_every=15, learning_rate=0.02), translator / "general", adapt
    )
    outcome = train(recipes.parse(plan, "test"), tmp_path / "domain", reporter=Silent())
    before = [
        json.loads(line)["dev"]["nll"]
        for line in (translator / "general" / "metrics.jsonl").read_text().splitlines()
        if "dev" in line
    ]
    assert outcome.metrics["nll"] < min(before)
    model = kotya.load(tmp_path / "domain")
    assert isinstance(model, Translator)
    assert model.search.beam == 2  # as its base is searched
    assert isinstance(model.translate("kot vidit dom"), str)
    if adapt == LORA:
        frozen = folders.load(tmp_path / "domain")
        training_step(frozen, ["kot vidit dom"], model, 1)
        assert all(
            (parameter.grad is None) and parameter.requires_grad == (".parts." in name)
            for name, parameter in frozen.model.named_parameters()
        )
        with (
            monkeypatch.context() as elsewhere
        ):  # where no layer is packed the changed weights are computed once too
            elsewhere.setattr(torch.backends.mkldnn, "is_available", lambda: False)
            unpacked = load_translator(tmp_path / "domain").ensemble.models[0]
        assert not places(unpacked)
        lines = ["kot vidit dom", "sad", "dom lyubit sad"]
        merge([(tmp_path / "domain", 1.0)], tmp_path / "merged")
        merged = kotya.load(tmp_path / "merged")
        assert isinstance(merged, Translator)
        scores = [list(one.score((line, "cat sees house") for line in lines)) for one in (model, merged)]
        assert [one.log_probability for one in scores[0]] == pytest.approx(
            [one.log_probability for one in scores[1]], abs=1e-4
        )
        # sixteen of rank 4 are of rank 64 on paper, which no layer here has
        merge([(tmp_path / "domain", 1 / 16)] * 16, tmp_path / "sum")
        summed, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("sum", "merged"))
        assert max(min(one.shape) for one in whole.values() if one.ndim == 2) < 64
        for name, one in whole.items():
            torch.testing.assert_close(summed[name], one, atol=1e-5, rtol=1e-5)
        merge([(tmp_path / "domain", 0.0)], tmp_path / "nothing")
        general = kotya.load(translator / "general")
        nothing = kotya.load(tmp_path / "nothing")
        assert isinstance(general, Translator)
        assert isinstance(nothing, Translator)
        assert nothing.translate(lines) == general.translate(lines)


def test_a_language_model_is_adapted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    train(small_task(tmp_path, "language_model", updates=20), tmp_path / "base", reporter=Silent())
    (tmp_path / "train").write_text(documents(100, 9), encoding="utf-8")
    plan = on_base(content(tmp_path, "language_model", updates=20), tmp_path / "base", LORA)
    outcome = train(recipes.parse(plan, "test"), tmp_path / "run", reporter=Silent())
    first = json.loads(
        [one for one in (tmp_path / "base" / "metrics.jsonl").read_text().splitlines() if "dev" in one][-1]
    )
    assert outcome.metrics["nll"] < first["dev"]["nll"]
    assert kotya.load(tmp_path / "run").generate("Anna", length=5).startswith("Anna")


def test_recipes_that_make_no_sense_are_one_line(made: Path, tmp_path: Path) -> None:
    plan = content(tmp_path, "classification")
    with pytest.raises(KotyaError, match="there is no base to adapt"):
        recipes.parse(plan | {"adapt": LORA}, "test")
    plan = on_base(plan, made / "bert", None)
    one = recipes.parse(plan | {"adapt": LORA | {"targets": "attention.query"}}, "test").adapt
    assert getattr(one, "targets", None) == ("attention.query",)
    with pytest.raises(KotyaError, match="rnk"):
        recipes.parse(plan | {"adapt": {"kind": "lora", "rnk": 4}}, "test")
    with pytest.raises(KotyaError, match="names no part of the model"):
        train(
            recipes.parse(plan | {"adapt": LORA | {"targets": ["attention.qury"]}}, "test"),
            tmp_path / "run",
            reporter=Silent(),
        )
    assert not (tmp_path / "run").exists()


def test_from_the_command_line(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    data, out = made / "classification" / "train", tmp_path / "run"
    flags = ["--task", "classification", "--data", str(data), "--base", str(made / "bert"), "-o", str(out)]
    assert command(["train", *flags, "adapt.kind=lora", "adapt.rank=2", "training.updates=3"]) == 0
    said = capsys.readouterr().err
    found = re.search(r"adapter: (\d+) of ([\d,]+) parameters .*\((.+) %\), (.+) MB on the disk", said)
    assert found is not None
    trained, whole = int(found[1]), int(found[2].replace(",", ""))
    stored, kept = load_file(out / "model.safetensors"), folders.load(out).model
    assert trained == sum(one.numel() for one in stored.values())
    assert whole == sum(one.numel() for one in kept.parameters())
    assert float(found[3]) == pytest.approx(100 * trained / whole, abs=0.005)
    # what safetensors writes beside the numbers is their names
    assert float(found[4]) == pytest.approx((out / "model.safetensors").stat().st_size / 1e6, abs=0.01)
    assert command(["merge", f"{out}=1", "--output", str(tmp_path / "whole")]) == 0
    for weight in ("much", "nan"):
        assert command(["merge", f"{out}={weight}", "--output", str(tmp_path / "no")]) == 2
        assert f"'{weight}' is no weight" in capsys.readouterr().err
    text = tmp_path / "text"
    text.write_text("a great film\n", encoding="utf-8")
    found = []
    for arguments in ([str(out)], [str(out), "--base", str(made / "bert")], [str(tmp_path / "whole")]):
        capsys.readouterr()
        assert command(["predict", arguments[0], str(text), *arguments[1:]]) == 0
        found.append(json.loads(capsys.readouterr().out)["probabilities"]["good"])
    assert found == pytest.approx(found[:1] * 3, abs=1e-5)
    shutil.copytree(out, tmp_path / "far" / "away")
    told = ["evaluate", str(tmp_path / "far" / "away"), str(made / "classification" / "dev"), "--json"]
    assert command(told) == 2
    assert "say where: --base" in capsys.readouterr().err
    assert command([*told, "--base", str(made / "bert")]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"] >= 0
    assert command(["predict", str(out), str(text), "--base", str(made / "classification-lora")]) == 2
    assert "an adapter, where a whole model is needed" in capsys.readouterr().err
    told[1] = str(tmp_path / "whole")
    assert command(told) == 0  # it has no recipe, and reads the file as its task does
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"] >= 0
    assert command(["evaluate", str(tmp_path / "whole")]) == 2
    assert "no recipe of its names a test set" in capsys.readouterr().err


def test_two_files_and_a_base_tune_a_translator(
    translator: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(translator / "cache"))
    files = ["--source", str(translator / "train.src"), "--target", str(translator / "train.tgt")]
    base = ["--base", str(translator / "general")]
    settings = ["training.epochs=null", "training.updates=2", "adapt.kind=pfeiffer", "adapt.size=4"]
    out = ["--output", str(tmp_path / "run")]
    assert command(["train", *files, *base, *settings, *out]) == 0
    assert "general is tuned" in capsys.readouterr().err
    assert isinstance(kotya.load(tmp_path / "run"), Translator)
    vocabulary = ["--vocabulary", str(translator / "general" / "tokenizer.json")]
    assert command(["train", *files, *base, *vocabulary, *out]) == 2
    assert "brings its own vocabulary" in capsys.readouterr().err
