"""Bad input of every task: one line that names the file and the line; what was cut is counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kotya import recipe as recipes
from kotya.errors import KotyaError
from kotya.tasks.encoder_recipe import hold_out
from kotya.text.conll import read_tagged
from tiny_tasks import content


def prepare(
    folder: Path, kind: str, train: str | None = None, dev: str | None = None, **data: Any
) -> list[str]:
    """What is said while a task is prepared on these files; on the usual ones without. An empty dev is none."""
    recipe = content(folder, kind)
    for name, text in (("train", train), ("dev", dev)):
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
    recipe["data"] |= data
    if dev == "":
        del recipe["data"]["dev"]
    said: list[str] = []
    recipes.parse(recipe, "test").prepare(None, folder / "cache", said.append, progress=False)
    return said


@pytest.mark.parametrize(
    ("kind", "train", "dev", "message"),
    [
        (
            "classification",
            None,
            "good\tfilm\nnice\tfilm\n",
            "dev:2: the label 'nice' stands nowhere in the training",
        ),
        (
            "classification",
            "good\tfilm\nbad film\n",
            None,
            "train:2: 1 columns .* where 2 are expected: label, text",
        ),
        ("classification", "good\ta\tb\tc\n", None, "train:1: 4 columns .*data.columns says"),
        ("classification", "good\tfilm\ngood\tstory\n", None, "train: every example has the label 'good'"),
        ("classification", "good\tfilm\nbad\t\n", None, "train:2: the column 'text' is empty"),
        ("classification", "", None, "train: the file is empty"),
        ("classification", None, "good\tfilm\tstory\n", "dev:1: 3 columns .* where 2 are expected"),
        ("regression", "0.5\tfilm\tsweet\nmuch\tfilm\tsweet\n", None, "train:2: 'much' is no number"),
        ("regression", "0.5\tfilm\tsweet\nnan\tfilm\tsweet\n", None, "train:2: 'nan' is no number"),
        ("relevance", "q\td\tfilm\tsweet\tyes\n", None, "train:1: the label 'yes' is no whole number"),
        ("relevance", "q\td\tfilm\tsweet\t0.5\n", None, "train:1: the label '0.5' is no whole number"),
        ("relevance", "q\td\tfilm\tsweet\tinf\n", None, "train:1: the label 'inf' is no whole number"),
        (
            "relevance",
            "q\td\tfilm\tsweet\t1\nq\td\tfilm\tdull\t0\n",
            None,
            "train:2: document d of query q stands",
        ),
        (
            "relevance",
            "q\ta\tfilm\tsweet\t1\nq\tb\tstory\tdull\t0\n",
            None,
            "train:2: query q has another text than at .*train:1",
        ),
        ("relevance", None, "q\td\tfilm\tsweet\t0\n", "dev:1: no query has a relevant document"),
        ("relevance", "q\td\tfilm\tsweet\n", None, "train:1: 4 columns"),
        ("relevance", None, "q\td\tfilm\tsweet\t20261127\n", "dev:1: the label '20261127' is more than 1000"),
        ("relevance", None, "q\td\tfilm\tsweet\t-1e30\n", "dev:1: the label '-1e30' is more than 1000"),
        ("masked_lm", "Anna film\n\n" * 40, None, "train: every document is a single sentence"),
        ("tagging", "film\tO\n\nAnna\n", None, r"train:3: one column \('Anna'\)"),
        ("tagging", "film\tO\nAnna\tI-PER\n", None, "train:2: 'I-PER' after 'O': in IOB2"),
        ("tagging", "film\tO\n", None, "train: there is no entity in it"),
        (
            "tagging",
            None,
            "film\tO\n\nMars\tB-GOD\n",
            "dev:3: the type 'GOD' stands nowhere in the training data",
        ),
        ("masked_lm", "\n\n", None, "there is no text"),
        ("masked_lm", None, "日本\n日本\n\n日本\n日本\n", "dev: the vocabulary knows no piece of it"),
        ("masked_lm", "a film\na story\n", None, "train: one document, .*training.nsp=0"),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, kind: str, train: str | None, dev: str | None, message: str
) -> None:
    with pytest.raises(KotyaError, match=message) as caught:
        prepare(tmp_path, kind, train, dev)
    assert "\n" not in str(caught.value)


def test_queries_without_a_relevant_document_are_counted(tmp_path: Path) -> None:
    rows = "q1\ta\tfilm\tsweet\t1\nq1\tb\tfilm\tdull\t0\nq2\ta\tfilm\tdull\t0\n"
    said = prepare(tmp_path, "relevance", dev=rows)
    assert any(
        "1 of 2 queries have no relevant document, the first q2 at" in line and "dev:3" in line
        for line in said
    )


def test_what_is_too_long_is_cut_and_counted(tmp_path: Path) -> None:
    long = "good\t" + "film " * 100 + "\n"
    said = prepare(tmp_path, "classification", train="bad\tdull film\n" + long + long)
    assert any("3 examples, 2 of them cut to 48 pieces" in line for line in said)


def test_long_sentences_are_split_and_counted(tmp_path: Path) -> None:
    long = "".join("film\tO\n" for _ in range(100)) + "Anna\tB-PER\n"
    said = prepare(tmp_path, "tagging", "Anna\tB-PER\n\n" + long, "Anna\tB-PER\n")
    assert any("2 sentences, 1 of them in parts of 48 pieces" in line for line in said)
    said = prepare(tmp_path, "tagging", "Anna\tB-PER\n", "n" * 90 + "\tO\n\n" + long)
    assert any("dev: 2 sentences, 1 of them in parts of 48 pieces, 1 with a word" in line for line in said)


def test_labels_that_do_not_fit_the_loss(tmp_path: Path) -> None:
    one_each = content(tmp_path, "relevance", loss="pairwise")
    one_each["data"]["train"] = "pairs"
    (tmp_path / "pairs").write_text("q1\td\tfilm\tsweet\t1\nq2\td\tfilm\tdull\t0\n")
    with pytest.raises(
        KotyaError, match=r"pairs: no query has a relevant document beside another.*pointwise"
    ):
        recipes.parse(one_each, "test").prepare(None, tmp_path / "cache", print, progress=False)
    with pytest.raises(KotyaError, match=r"training.class_weights: .*no classes"):
        recipes.parse(content(tmp_path, "regression", class_weights="balanced"), "test")


def test_labels_that_yaml_reads_as_truth_values_need_quotes(tmp_path: Path) -> None:
    with pytest.raises(KotyaError, match=r"class_weights: .*needs quotes"):
        recipes.parse(content(tmp_path, "classification", class_weights={True: 1, False: 3}), "test")


def test_a_word_of_conll_may_hold_a_blank_that_breaks_no_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("10\u00a0000 NN O\nAnna  NN   B-PER\n", encoding="utf-8")
    (one,) = read_tagged(tmp_path / "file", "iob2")
    assert (one.words, one.tags) == (("10\u00a0000", "Anna"), ("O", "B-PER"))


def test_labels_that_yaml_reads_as_numbers_have_weights(tmp_path: Path) -> None:
    recipe = content(tmp_path, "classification", class_weights={0: 1, 1: 3})
    assert recipes.parse(recipe, "test").training.class_weights == {"0": 1.0, "1": 3.0}


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_what_is_rare_may_be_held_out(tmp_path: Path, kind: str) -> None:
    """Here every label and type has one example, and some of those become the dev set."""
    names = [f"RARE{number}" for number in range(20)]
    rows = [f"{name}\tfilm\n" if kind == "classification" else f"Anna\tB-{name}\n\n" for name in names]
    said = prepare(tmp_path, kind, "".join(rows), "")
    assert any("dev set: 2" in line for line in said)


def test_without_a_dev_set_some_is_held_out(tmp_path: Path) -> None:
    for kind, what in (
        ("classification", "20 examples"),
        ("tagging", "20 sentences"),
        ("relevance", "queries"),
        ("masked_lm", "20 documents"),
    ):
        said = prepare(tmp_path, kind, dev="")
        assert any(line.startswith("dev set:") and what in line for line in said), said
    with pytest.raises(KotyaError, match="too few to hold one out"):
        prepare(tmp_path, "masked_lm", "Anna film\nAnna story\n", "")
    # of next-sentence prediction two documents at least, of ranking queries that have a relevant document
    said = prepare(tmp_path, "masked_lm", "Anna film\nAnna story\n\n" * 12, "")
    assert any(line.startswith("dev set: 2 documents") for line in said)
    rows = [f"q{number}\td\tfilm\tsweet\t{int(number >= 110)}\n" for number in range(120)]
    said = prepare(tmp_path, "relevance", "".join(rows), "")
    assert "dev set: 1 queries with a relevant document held out of the training data" in said


@pytest.mark.parametrize(("count", "away"), [(40, 4), (300, 30), (50_000, 1000)])
def test_what_is_held_out_is_drawn(count: int, away: int, tmp_path: Path) -> None:
    """From everywhere in the file: what is sorted by its label is not held out of one."""
    kept, out = hold_out(count, "examples", tmp_path, lambda _: None)
    assert sorted(kept + out) == list(range(count))
    assert len(out) == away
    assert abs(np.mean(out) / count - 0.5) < 4 * (1 / 12 / away) ** 0.5
    assert out != list(range(away))
    assert hold_out(count, "examples", tmp_path, lambda _: None) == (kept, out)


def test_columns_are_a_list_or_have_commas_between(tmp_path: Path) -> None:
    recipe = content(tmp_path, "classification")
    recipe["data"]["columns"] = "label,text,-"
    assert recipes.parse(recipe, "test").data.columns == ("label", "text", "-")  # type: ignore[attr-defined]


def test_columns_say_which_is_which(tmp_path: Path) -> None:
    said = prepare(
        tmp_path,
        "classification",
        "x\tfilm\tgood\nx\tdull\tbad\n",
        "x\tfilm\tgood\n",
        columns=["-", "text", "label"],
    )
    assert "labels: bad, good" in said
    for columns, message in (
        (["label", "txet"], "no column 'txet'"),
        (["text", "-"], "label must stand there once"),
    ):
        with pytest.raises(KotyaError, match=message):
            prepare(tmp_path, "classification", columns=columns)


def test_other_schemes_are_read(tmp_path: Path) -> None:
    said = prepare(tmp_path, "tagging", "Anna\tI-PER\nin\tO\n", "Anna\tI-PER\n", scheme="iob1")
    assert any("types: PER" in line for line in said)
