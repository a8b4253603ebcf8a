"""From a labelled file and a base to answers, by flags alone: train, predict, generate, evaluate, for every task."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kotya.cli.main import run
from kotya.text.vocabulary import Vocabulary
from kotya.training.automatic import recipe_for
from kotya.training.flags import recipe_of_flags
from kotya.training.progress import Silent
from kotya.training.run import train
from tiny_tasks import classification, documents, relevance, small_task, tagging

Command = Callable[..., str]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a pretrained encoder in `bert`, and training files of every task."""
    folder = tmp_path_factory.mktemp("tasks")
    made = {"labels": classification, "ranks": relevance, "tags": tagging, "text": documents}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        (folder / "data").mkdir()
        train(small_task(folder / "data", "masked_lm", updates=5), folder / "bert", reporter=Silent())
        for name, make in made.items():
            (folder / name).write_text(make(60, 3), encoding="utf-8")
        yield folder


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command that must succeed; returns what it printed."""

    def command(*arguments: object) -> str:
        capsys.readouterr()
        assert run([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return command


def tune(base: Path, printed: Command, task: str, data: str, *settings: str) -> Path:
    out = base / f"run-{task}"
    if not out.exists():
        flags = ("--task", task, "--data", base / data, "--base", base / "bert", "-o", out)
        printed("train", *flags, "training.epochs=1", "training.precision=float32", *settings)
    return out


def test_a_labelled_file_read_as_text_is_noticed(
    base: Path, printed: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tune(base, printed, "classification", "labels")
    for columns, noticed in ((), True), (("--columns", "-,text"), False):
        assert run(["predict", str(model), str(base / "labels"), *columns]) == 0
        assert ("60 lines were read as text whole" in capsys.readouterr().err) == noticed


def test_labels(base: Path, printed: Command) -> None:
    model = tune(base, printed, "classification", "labels")
    lines = printed("predict", model, base / "labels", "--columns", "-,text").splitlines()
    answers = [json.loads(line) for line in lines]
    assert len(answers) == 60
    assert all(set(one["probabilities"]) == {"good", "bad"} for one in answers)
    assert [one["text"] for one in answers] == [
        line.split("\t")[1] for line in (base / "labels").read_text().splitlines()
    ]
    scores = json.loads(printed("evaluate", model, base / "labels", "--json"))["metrics"]
    right = [
        one["label"] == line.split("\t")[0]
        for one, line in zip(answers, (base / "labels").open(), strict=True)
    ]
    assert scores["accuracy"] == pytest.approx(100 * sum(right) / 60)


def test_texts_are_read_as_far_as_in_training(base: Path, printed: Command) -> None:
    """With training.max_length what is predicted is what was evaluated."""
    model = tune(base, printed, "classification", "labels", "training.max_length=8")
    texts = [line.split("\t")[1] for line in (base / "labels").read_text().splitlines()]
    (base / "longer").write_text(
        "".join(f"{text} {'film ' * 9}{more}\n" for more in ("lovely", "dull") for text in texts)
    )
    answers = [json.loads(line) for line in printed("predict", model, base / "longer").splitlines()]
    assert [one["probabilities"] for one in answers[:60]] == [one["probabilities"] for one in answers[60:]]


def test_updates_take_the_place_of_epochs(base: Path, printed: Command) -> None:
    flags = ("--task", "classification", "--data", base / "labels", "--base", base / "bert")
    said = printed("train", *flags, "-o", base / "updates", "training.updates=2")
    assert "2 updates" in said
    text = base / "text"
    recipe, _ = recipe_for(text, text, None, ["training.updates=2"])
    assert (recipe.training.updates, recipe.training.epochs) == (2, None)
    tuned, _ = recipe_for(text, text, None, base=base / "bert")
    assert (tuned.training.epochs, tuned.training.warmup) == (5, 0.1)


def test_what_is_trained_already_goes_on_more_slowly(base: Path) -> None:
    rates = []
    for origin, settings in ((None, []), (base / "bert", []), (base / "bert", ["adapt.kind=lora"])):
        recipe, _ = recipe_of_flags("masked_lm", [base / "text"], None, origin, settings)
        rates.append(recipe.training.learning_rate)
    fresh, whole, adapter = rates
    assert whole < adapter < fresh


def test_a_base_with_the_vocabulary_of_another(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(base / "bert", tmp_path / "bert", ignore=shutil.ignore_patterns("checkpoints"))
    Vocabulary.learn_masked(lambda: ["a b c"], 290).save(tmp_path / "bert" / "tokenizer.json")
    flags = ["--task", "classification", "--data", str(base / "labels"), "--base", str(tmp_path / "bert")]
    assert run(["train", *flags, "-o", str(tmp_path / "out")]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "encoder.embedding.tokens is" in line
    assert "do not belong together" in line


def test_rankings(base: Path, printed: Command) -> None:
    model = tune(base, printed, "relevance", "ranks", "training.loss=pairwise")
    columns = "query_id,document_id,query,document,-"
    run_file = printed("predict", model, base / "ranks", "--columns", columns, "--trec").splitlines()
    assert len(run_file) == 240
    assert [line.split()[3] for line in run_file[:4]] == ["1", "2", "3", "4"]
    first = json.loads(printed("predict", model, base / "ranks", "--columns", columns).splitlines()[0])
    assert [one["document_id"] for one in first["documents"]] == [line.split()[2] for line in run_file[:4]]
    assert "MAP" in printed("evaluate", model, base / "ranks")


def test_a_line_with_other_columns_is_named_with_its_file(
    base: Path, printed: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tune(base, printed, "relevance", "ranks", "training.loss=pairwise")
    assert run(["predict", str(model), str(base / "ranks")]) == 2
    assert f"kotya: {base / 'ranks'}:1: 5 columns" in capsys.readouterr().err
    typed(monkeypatch, "q\td\tfilm\tsweet\nq\td\n")
    assert run(["predict", str(model)]) == 2
    assert "kotya: standard input, line 2: 2 columns" in capsys.readouterr().err


def test_entities(base: Path, printed: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tune(base, printed, "tagging", "tags")
    words = [line.split("\t")[0] for line in (base / "tags").read_text().splitlines() if line]
    tagged = [
        line.split("\t")
        for line in printed("predict", model, base / "tags", "--tags", "iob1").splitlines()
        if line
    ]
    assert [one[0] for one in tagged] == words
    typed(monkeypatch, "film Anna Oslo\n\nAnna\n")
    answers = [json.loads(line) for line in printed("predict", model).splitlines()]
    assert [one["text"] for one in answers] == ["film Anna Oslo", "", "Anna"]
    for one in answers:
        assert all(one["text"][e["start"] : e["stop"]] == e["text"] for e in one["entities"])


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_json_is_a_line_to_every_reader(
    base: Path, printed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Anna \u2028 [MASK] \x85\u2029 film"
    typed(monkeypatch, f"{text}\n")
    [line] = printed("predict", base / "bert").splitlines()
    assert json.loads(line)["text"] == text


def test_masks(base: Path, printed: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "Anna [MASK] film\n")
    [one] = [json.loads(line) for line in printed("predict", base / "bert", "--top", "2").splitlines()]
    assert [len(some) for some in one["masks"]] == [2]
    assert "nsp accuracy" in printed("evaluate", base / "bert", "--set", "dev")


def test_texts(base: Path, printed: Command, capsys: pytest.CaptureFixture[str]) -> None:
    out = base / "lm"
    printed(
        *("train", "--task", "language_model", "--data", base / "text", "-o", out, "vocabulary.size=330"),
        *(
            "training.epochs=1",
            "model.size=32",
            "model.layers=1",
            "model.max_length=48",
            "training.length=32",
        ),
    )
    drawn = printed("generate", out, "Anna", "--sample", 3, "--length", 5, "--top-k", 2).splitlines()
    assert len(drawn) == 3
    assert all(line.startswith("Anna") for line in drawn)
    assert printed("generate", out, "Anna", "--beam", 2, "--length", 5) == printed(
        "generate", out, "Anna", "--beam", 2, "--length", 5
    )
    greedy = printed("generate", out, "Anna", "--beam", 1)
    assert printed("generate", out, "Anna", "--temperature", 0.001) == greedy  # each option reaches the draw
    assert printed("generate", out, "Anna", "--top-p", 1e-6) == greedy
    assert printed("generate", out, "Anna", "--top-k", 1) == greedy
    assert printed("generate", out, "Anna", "--temperature", 9) != greedy
    assert printed("generate", out, "Anna", "--seed", 2) != printed("generate", out, "Anna", "--seed", 3)
    assert "Anna " * 39 in printed("generate", out, "Anna " * 40)  # there is room for some of 100 pieces
    assert run(["generate", str(out), "Anna " * 60]) == 2
    assert "1 more are more than the 48 that the model reads" in capsys.readouterr().err
    assert "perplexity" in printed("evaluate", out, base / "text")


def test_blocks_are_as_long_as_a_model_from_flags_reads(base: Path) -> None:
    fresh, _ = recipe_of_flags("language_model", [base / "text"], None, None, [])
    assert fresh.training.length == fresh.model.max_length == 256  # type: ignore[attr-defined]
    wider, _ = recipe_of_flags("language_model", [base / "text"], None, None, ["model.size=128"])
    assert wider.training.length == 256  # type: ignore[attr-defined]
    shorter, _ = recipe_of_flags("language_model", [base / "text"], None, None, ["model.max_length=128"])
    assert shorter.training.length == 128  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--task", "tagging"], "--task goes with --data"),
        (["train", "--task", "masked_lm", "--data", "text", "--vocabulary", "x"], "are a translator's"),
        (["train", "--task", "tuning", "--data", "labels"], "--task tuning: there are masked_lm"),
        (["train", "--task", "translation", "--data", "labels"], "two files make a translator"),
        (["train", "--task", "tagging", "--data", "nowhere"], "nowhere: there is no such file"),
        (["train", "--task", "tagging", "--data", "tags"], "starts from a model: --base"),
        (["train", "--task", "tagging", "--data", "labels", "--base", "bert"], "labels:1: "),
        (["train", "--data", "labels"], "--data and --dev go with --task"),
        (["predict", "bert", "labels", "--trec"], "--trec means nothing to this model"),
        (["predict", "bert", "labels"], "there is no [MASK] in"),
        (["generate", "bert", "Anna"], "no language model"),
        (
            ["translate", "bert", "labels"],
            "a model of the task masked_lm, where one of translation is needed",
        ),
        (["evaluate", "bert", "labels", "tags"], "no translator"),
        (["evaluate", "bert", "--set", "dev", "--precision", "int4"], "int4"),
        (["predict", "bert", "labels", "--precision", "int4"], "int4"),
    ],
)
def test_mistakes_are_one_line(
    base: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(base)
    assert run(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("kotya: ")
    assert message in error
