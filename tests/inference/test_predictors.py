"""What models over encoders answer: not by their neighbours, in order, nothing lost, places in the text, windows."""

import itertools
import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import kotya
from checks import unchecked
from kotya import folder
from kotya.errors import KotyaError
from kotya.inference.arriving import arriving
from kotya.inference.mask_filler import MaskFiller
from kotya.inference.predictions import classified, conll, ranked
from kotya.inference.ranker import Ranker
from kotya.inference.tagger import Tagger, found_entities, word_spans
from kotya.models.bert import PRESETS
from kotya.search.config import SamplingConfig
from kotya.tasks.encoder_recipe import EncoderFolder
from kotya.tasks.language_model import roles_of
from kotya.tasks.masked_lm import MaskedLMFolder
from kotya.tasks.packed_batch import predict_windows
from kotya.tasks.rankings import trec_run
from kotya.text.cache import cache_folder
from kotya.text.sequences import encode, windows
from kotya.text.tags import Scheme, forbidden
from kotya.text.vocabulary import Vocabulary
from kotya.text.words import parts
from kotya.training.progress import Silent
from kotya.training.run import train
from tiny_tasks import CITIES, FILLERS, NAMES, small_task


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One trained model a task."""
    patch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("models")
    patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    found = {}
    for kind in ("classification", "regression", "relevance", "tagging", "masked_lm", "language_model"):
        (root / kind).mkdir()
        torch.manual_seed(1)
        with unchecked():
            train(small_task(root / kind, kind), root / f"{kind}-run", reporter=Silent())
        found[kind] = kotya.load(root / f"{kind}-run")
    yield {**found, "root": root}
    patch.undo()


def texts(count: int) -> list[str]:
    words = itertools.cycle([*FILLERS, "lovely", "dull", *NAMES, *CITIES])
    return [" ".join(itertools.islice(words, 1 + number * 7 % 30)) for number in range(count)]


def test_an_answer_does_not_depend_on_the_texts_beside_it(models: dict[str, Any]) -> None:
    model, many = models["classification"], texts(40)
    together = list(model.predict(many))
    for text, one in zip(many, together, strict=True):
        alone = model.classify(text)
        assert alone.label == one.label
        assert alone.probabilities == pytest.approx(one.probabilities, abs=1e-4)
        assert sum(one.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    tagger = models["tagging"]
    for text, found in zip(many, tagger.predict(many), strict=True):
        assert [(one.label, one.start, one.stop) for one in tagger.find(text)] == [
            (one.label, one.start, one.stop) for one in found
        ]


def test_entities_stand_where_they_are_said_to(models: dict[str, Any]) -> None:
    text = "film  Anna Oslo   night"
    found = models["tagging"].find(text)
    assert [(one.label, one.text) for one in found] == [("PER", "Anna"), ("LOC", "Oslo")]
    for one in found:
        assert text[one.start : one.stop] == one.text
        assert 0 < one.probability <= 1


def test_words_of_a_text_without_the_marks_around_them() -> None:
    text = "(Anna), said Mr. O'Hara of U.S. «Перм»!"
    words = ["(", "Anna", ")", ",", "said", "Mr", ".", "O'Hara", "of", "U.S", ".", "«", "Перм", "»", "!"]
    assert [text[start:stop] for start, stop in word_spans(text)] == words


def test_marks_inside_part_words_but_for_those_that_belong_there() -> None:
    text = "«Anna»,(Bonn) Rome/Oslo Smith—who Bonn,Perm AT&T 3,500 10:30 Jean-Luc https://a.b/c?d=1."
    words = [
        "«",
        "Anna",
        "»",
        ",",
        "(",
        "Bonn",
        ")",
        "Rome",
        "/",
        "Oslo",
        "Smith",
        "—",
        "who",
        "Bonn",
        ",",
        "Perm",
    ]
    words += ["AT&T", "3,500", "10:30", "Jean-Luc", "https://a.b/c?d=1", "."]
    assert [text[start:stop] for start, stop in word_spans(text)] == words
    text = "张三在 東京タワー"
    assert [text[start:stop] for start, stop in word_spans(text)] == list(text.replace(" ", ""))
    text = "🇩🇪🇫🇷 👨‍👩‍👧x 👍🏽! ❤️"
    pictures = ["🇩🇪", "🇫🇷", "👨‍👩‍👧", "x", "👍🏽", "!", "❤️"]
    assert [text[start:stop] for start, stop in word_spans(text)] == pictures


def test_combining_characters_belong_to_their_words() -> None:
    text = unicodedata.normalize("NFD", "José é à la") + " हिन्दी भाषा"
    assert [text[start:stop] for start, stop in word_spans(text)] == text.split()


def test_no_word_of_a_long_sentence_is_lost(models: dict[str, Any]) -> None:
    """Far beyond what the model reads; with words of which no piece is left."""
    words = ["film", "Anna", "\u200b", "Oslo", "story" * 40] * 30
    tags = next(models["tagging"].tag([words]))
    assert len(tags) == len(words)
    assert tags[1] == "B-PER"
    assert tags[-4] == "B-PER"
    assert tags[2] == "O"


def test_a_model_whose_labels_are_no_tags_says_so(models: dict[str, Any]) -> None:
    tagger = models["tagging"]
    other = Tagger(
        tagger.model, tagger.vocabulary, tagger.config.model_copy(update={"labels": ["O", "PER", "LOC"]})
    )
    with pytest.raises(KotyaError, match="'PER' is no tag of entities"):
        other.find("Anna")


def test_a_word_longer_than_the_model_reads_is_counted(models: dict[str, Any]) -> None:
    tagger = Tagger(models["tagging"].model, models["tagging"].vocabulary, models["tagging"].config)
    list(tagger.tag([["film", "Anna"], ["a-b," * 50, "Oslo"]]))
    assert tagger.cut == 1


def test_an_empty_prompt_has_as_many_pieces_more_as_any_other(models: dict[str, Any]) -> None:
    generator = models["language_model"]
    sampling = SamplingConfig(samples=20, seed=1)
    for prompt in ("", "film"):
        given = len(generator.vocabulary.encode(prompt))
        [found] = generator.continuations([prompt], length=3, sampling=sampling)
        # a piece that is part of a character leaves a mark that is pieces of its own
        whole = [one.text for one in found if not one.finished and "\ufffd" not in one.text]
        lengths = [len(generator.vocabulary.encode(text)) - given for text in whole]
        assert lengths
        assert max(lengths) <= 3


def test_parts_hold_every_word_once() -> None:
    vocabulary = Vocabulary.learn_wordpiece(lambda: [" ".join(FILLERS + NAMES)] * 3, 80, lowercase=False)
    sentence = [*FILLERS, "\x7f", "unbelievable", *NAMES] * 5
    [some] = parts(vocabulary, [sentence], 12)
    assert [word for part in some for word in part.words] == [
        number for number, word in enumerate(sentence) if word != "\x7f"
    ]
    for part in some:
        assert len(part.encoded) <= 12
        for word, first in zip(part.words, part.firsts, strict=True):
            assert int(part.encoded.ids[first]) == vocabulary.encode(sentence[word])[0]


def test_conll_in_and_out(models: dict[str, Any]) -> None:
    lines = ["Anna", "Clara", "film", "", "", "Oslo x y"]
    blocks = list(conll(models["tagging"], lines, "iobes"))
    assert len(blocks) == 2
    assert [line.split("\t")[0] for block in blocks for line in block.splitlines()] == [
        "Anna",
        "Clara",
        "film",
        "Oslo",
    ]
    assert blocks[1] == "Oslo\tS-LOC\n"


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "iobes"])
def test_what_is_written_is_allowed(models: dict[str, Any], scheme: Scheme) -> None:
    """Whatever the model says: here every tag it can say is as likely as another."""
    trained = models["tagging"]
    random = Random(3)

    class Guessing(Tagger):
        def _tag(self, sentences: Sequence[Sequence[str]]) -> list[tuple[list[str], list[float]]]:
            return [([random.choice(self.config.labels) for _ in one], [1.0] * len(one)) for one in sentences]

    guessing = Guessing(trained.model, trained.vocabulary, trained.config)
    for block in conll(
        guessing, [["Anna", "film", "Oslo"][n % 3] if n % 9 else "" for n in range(400)], scheme
    ):
        assert forbidden([line.split("\t")[1] for line in block.splitlines()], scheme) is None


def test_lone_spaces_among_the_pieces_belong_to_the_next_word() -> None:
    vocabulary = Vocabulary.learn(lambda: ["film story night Anna"] * 9, 300)
    words = ["1998", ",", "Anna", "in", "1998", "!"]
    [[part]] = parts(vocabulary, [words], 60)
    ids = part.encoded.ids.tolist()
    for first, stop, word in zip(part.firsts, [*part.firsts[1:], len(ids) - 1], words, strict=True):
        assert ids[first:stop] == vocabulary.encode(word)


def test_rankings(models: dict[str, Any]) -> None:
    ranker = models["relevance"]
    documents = ["dull film", "film story lovely", "awful night"]
    assert ranker.rank("which film", documents)[0][0] == 1
    rows = [f"q{q}\td{d}\twhich film\t{text}" for q in (1, 2) for d, text in enumerate(documents)]
    found = list(ranked(ranker, rows, None, None))
    assert [query for query, _ in found] == ["q1", "q2"]
    assert found[0][1][0][0] == "d1"
    scores = [score for _, score in found[0][1]]
    assert scores == sorted(scores, reverse=True)
    assert next(iter(trec_run(found[:1], "tag"))) == f"q1 Q0 d1 1 {scores[0]:.6f} tag"
    with pytest.raises(KotyaError, match=rf"line {len(rows) + 1}: query q1 comes back"):
        list(ranked(ranker, [*rows, rows[0]], None, None))
    with pytest.raises(KotyaError, match=rf"line {len(rows) + 1}: query q2 has document d2 twice"):
        list(ranked(ranker, [*rows, rows[-1]], None, None))
    with pytest.raises(KotyaError, match="'d 1' is no name for a run file"):
        list(trec_run([("q1", [("d 1", 0.5)])], "tag"))


def test_fills(models: dict[str, Any]) -> None:
    filler = models["masked_lm"]
    found = filler.fill("Anna Anna [MASK] Anna [MASK]", top=3)
    assert [len(some) for some in found] == [3, 3]
    for some in found:
        shares = [one.probability for one in some]
        assert shares == sorted(shares, reverse=True)
    whole = filler.fill("Anna Anna film [MASK]", top=len(filler.vocabulary))[0]
    assert sum(one.probability for one in whole) == pytest.approx(1.0, abs=0.01)
    assert not {one.piece for one in whole} & {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    assert len(whole) == len(filler.vocabulary) - 5
    with pytest.raises(KotyaError, match=r"no \[MASK\]"):
        filler.fill("Anna")
    with pytest.raises(KotyaError, match=r"text 2: .* stand farther apart than the 46 pieces"):
        list(filler.predict(["[MASK]", "[MASK]" + "Anna " * 60 + "[MASK]"]))


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_a_mask_stands_in_its_text_as_a_word_would(kind: str) -> None:
    """The pieces around it are those of the text with a word in its place, whatever comes right behind."""
    lines = ["the film, a dull story. it is dull!"] * 3
    vocabulary = (
        Vocabulary.learn_masked(lambda: lines, 300)
        if kind == "bpe"
        else Vocabulary.learn_wordpiece(lambda: lines, 300, lowercase=True)
    )
    config = MaskedLMFolder(model=PRESETS["bert-tiny"], next_sentence=False)
    filler = MaskFiller(config.build((vocabulary, vocabulary)), vocabulary, config)
    for text in ("the [MASK], a dull story.", "it is [MASK]!", "[MASK] is dull"):
        ids = filler._encoded(text, "here").ids.tolist()
        pieces = [vocabulary.pieces([one])[0] for one in ids[1:-1] if one != vocabulary.mask]
        whole = vocabulary.pieces(vocabulary.encode(text.replace("[MASK]", "film")))
        film = vocabulary.pieces(vocabulary.encode("film"))
        start = next(i for i in range(len(whole)) if whole[i : i + len(film)] == film)
        assert pieces == whole[:start] + whole[start + len(film) :]


def test_fills_of_a_long_text_are_of_what_stands_around_the_mask(models: dict[str, Any]) -> None:
    filler = models["masked_lm"]
    before, cut = " ".join(["Anna"] * 60), filler.cut
    [found] = filler.fill(f"{before} [MASK]", top=3)
    assert filler.cut == cut + 1
    [expected] = filler.fill(" ".join(["Anna"] * 45) + " [MASK]", top=3)
    assert [one.piece for one in found] == [one.piece for one in expected]
    assert [one.probability for one in found] == pytest.approx(
        [one.probability for one in expected], abs=1e-5
    )


def test_fills_come_in_the_order_of_the_texts(models: dict[str, Any]) -> None:
    filler = models["masked_lm"]
    texts = [f"{name} " * count + "[MASK]" for name, count in zip(NAMES * 4, range(12, 0, -1), strict=True)]
    for text, found in zip(texts, filler.predict(texts, top=2), strict=True):
        assert [one.piece for one in found[0]] == [one.piece for one in filler.fill(text, top=2)[0]]


def test_generated_texts_begin_with_the_prompt(models: dict[str, Any]) -> None:
    generator = models["language_model"]
    for options in ({}, {"beam": 3}, {"sampling": SamplingConfig(samples=4, top_k=2)}):
        some = next(generator.continuations(["Anna Anna"], length=12, **options))
        assert len(some) == (4 if "sampling" in options else 1)
        for one in some:
            assert one.text.startswith("Anna Anna")
            assert len(generator.vocabulary.encode(one.text)) <= 2 + 12
    drawn = next(generator.continuations(["Anna"], length=20, sampling=SamplingConfig(samples=3, top_k=2)))
    for one in drawn:
        if one.finished:
            assert one.log_probability == pytest.approx(generator.score(one.text), abs=1e-3)
    with pytest.raises(KotyaError, match="more than the 48 that the model reads"):
        generator.generate("Anna", length=100)


def test_windows_reach_the_end_of_a_long_text(models: dict[str, Any]) -> None:
    model = models["classification"]
    text = "film " * 60 + "lovely"
    [row] = windows(model.vocabulary, [(text,)], 48, 20)
    pieces = model.vocabulary.encode(text)
    assert row[0].ids[1:-1].tolist() == pieces[:46]
    assert row[-1].ids[-2] == pieces[-1]
    assert {len(one) for one in row[:-1]} == {48}
    assert not any(one.cut for one in row)
    before = model.cut
    model.classify(text)
    assert model.cut == before + 1
    model.classify(text, stride=20)
    assert model.cut == before + 1


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_answer_for_a_long_text_is_the_mean_over_its_windows(models: dict[str, Any], kind: str) -> None:
    model = models[kind]
    text: Any = "lovely film " * 30 + "dull story " * 30
    text = text if kind == "classification" else ("lovely film", text)
    [row] = windows(model.vocabulary, [(text,) if kind == "classification" else text], 48, 20)
    assert len(row) > 4
    outputs = torch.cat([rows for one in row for rows in predict_windows(model.model, [[one]])]).double()
    found = (
        model.classify(text, stride=20)
        if kind == "classification"
        else next(model.predict([text], stride=20))
    )
    if kind == "regression":
        assert found.number == pytest.approx(float(outputs.mean()), abs=1e-4)
        assert float(outputs.std()) > 1e-3
    else:
        shares = outputs.softmax(-1).mean(0).tolist()
        assert list(found.probabilities.values()) == pytest.approx(shares, abs=1e-4)
        assert float(outputs.std(0).max()) > 1e-3


def test_documents_that_are_as_good(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by place they keep their order; by name the last name is first, as in trec_eval's measures."""
    monkeypatch.setattr(
        Ranker, "score", lambda _, pairs, stride: iter([float("dull" not in two) for _, two in pairs])
    )
    documents = ["dull film", "sweet film", "dull film", "sweet film", "dull film"]
    assert [place for place, _ in models["relevance"].rank("film", documents)] == [1, 3, 0, 2, 4]
    rows = [("q", name, "film", text) for name, text in zip("abcde", documents, strict=True)]
    [(_, found)] = models["relevance"].rankings(rows)
    assert [name for name, _ in found] == ["d", "b", "e", "c", "a"]


def test_an_entity_is_as_sure_as_the_least_sure_of_its_words() -> None:
    tagged = (["B-PER", "I-PER", "O"], [0.9, 0.6, 1.0])
    [one] = found_entities("Anna Lee sang", [(0, 4), (5, 8), (9, 13)], tagged)
    assert (one.text, one.probability) == ("Anna Lee", 0.6)


def test_no_text_holds_a_special_piece() -> None:
    vocabulary = Vocabulary.learn_wordpiece(lambda: ["a b c d e f"] * 5, 20, lowercase=True)
    roles = roles_of(vocabulary)
    assert set(roles.banned) == {vocabulary.pad, vocabulary.unknown, vocabulary.begin, vocabulary.mask}
    assert roles.end not in roles.banned


@pytest.mark.parametrize("stride", [1, 7, 20])
@pytest.mark.parametrize("lengths", [(60, 2), (60, 60), (2, 60), (23, 23), (45, 1), (60, 0)])
def test_windows_read_no_less_of_a_pair(
    models: dict[str, Any], lengths: tuple[int, int], stride: int
) -> None:
    vocabulary = models["regression"].vocabulary
    first, second = (vocabulary.encode("film " * count) for count in lengths)
    pair = ("film " * lengths[0], "film " * lengths[1])
    [[whole]] = windows(vocabulary, [pair], 48, None)
    [row] = windows(vocabulary, [pair], 48, stride)
    assert all(len(one) <= 48 for one in row)
    kept = {one.second - 2 for one in row}
    assert len(kept) == 1
    assert min(kept) >= min(whole.second - 2, 22)
    if len(second) <= 22:
        assert min(kept) == whole.second - 2
    assert row[0].cut == len(first) - min(kept)
    assert sum(len(one) - one.second - 1 for one in row) >= len(second)


def test_pairs_are_cut_at_the_longer_side() -> None:
    vocabulary = Vocabulary.learn_wordpiece(lambda: ["a b c d e f"] * 5, 20, lowercase=True)
    one, two = encode(vocabulary, [("a b c", "d " * 20), ("a " * 20, "b " * 20)], 11)
    assert [len(one), len(two)] == [11, 11]
    assert (one.second, one.cut) == (5, 15)
    assert two.segments().tolist() == [0] * 6 + [1] * 5
    [exact] = encode(vocabulary, [("a b c", "d e f")], 9)
    assert exact.cut == 0


def test_texts_and_pairs_stand_among_each_other() -> None:
    vocabulary = Vocabulary.learn_wordpiece(lambda: ["a b c d e f"] * 5, 20, lowercase=True)
    mixed = [("a b",), ("a", "b c"), ("d",)]
    alone = [encode(vocabulary, [one], 11)[0] for one in mixed]
    for together in (encode(vocabulary, mixed, 11), [row for (row,) in windows(vocabulary, mixed, 11, None)]):
        assert [one.ids.tolist() for one in together] == [one.ids.tolist() for one in alone]
        assert [one.second for one in together] == [one.second for one in alone]


def test_a_pair_where_a_text_is_needed(models: dict[str, Any]) -> None:
    with pytest.raises(KotyaError, match="reads single texts"):
        list(models["classification"].predict([("a", "b")]))
    with pytest.raises(KotyaError, match=r"line 2: 1 columns"):
        list(classified(models["regression"], ["film\tsweet", "film"], None, None))
    assert json.dumps(next(classified(models["regression"], ["film\tsweet"], None, None)))


def test_an_encoder_alone_says_nothing(models: dict[str, Any], tmp_path: Path) -> None:
    vocabulary = models["masked_lm"].vocabulary
    config = EncoderFolder(model=models["masked_lm"].config.model, pooler=True)
    both = (vocabulary, vocabulary)
    folder.create(
        tmp_path / "e",
        config=config,
        vocabularies=both,
        recipe=None,
        tensors=folder.weights(config.build(both)),
    )
    with pytest.raises(KotyaError, match="without a head"):
        kotya.load(tmp_path / "e")


def test_lines_are_handed_on_as_they_come() -> None:
    """A person's line is answered before the next is typed; what fails comes behind what came before it."""
    seen: list[int] = []

    def items() -> Iterator[int]:
        for number in range(3):
            yield number
            while number not in seen:  # waits for the answer
                pass
        raise KotyaError("broken")

    def answer() -> None:
        for group in arriving(items(), 100):
            seen.extend(group)

    with pytest.raises(KotyaError, match="broken"):
        answer()
    assert seen == [0, 1, 2]
    assert [len(group) for group in arriving(range(25), 10)] == [10, 10, 5]
    assert cache_folder().name == "tokens"
