"""What a Hugging Face folder holds beside its weights: what of it is read as there, and what is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

import kotya
from kotya.cli.main import run
from kotya.errors import KotyaError
from kotya.inference.classifier import Classifier
from kotya.interop.huggingface import export_model, import_model, read
from tiny_encoders import make
from tiny_folders import change, tokenizer, wordpiece, write


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"model_type": "t5"}, "models of type 't5' are not read; these are: marian, bert"),
        ("config.json", {"problem_type": "multi_label_classification"}, "several labels a text"),
        ("config.json", {"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ("tokenizer_config.json", {"mask_token": "<gone>"}, "no piece '<gone>', its mask_token"),
        ("tokenizer.json", {"model": {"type": "WordLevel", "vocab": {}, "unk_token": "x"}}, "WordLevel"),
        ("tokenizer.json", {"model": None}, "no tokenizer"),
        ("config.json", {"id2label": ["a", "b"]}, "id2label is no object"),
        ("config.json", {"id2label": {"0": "a", "1": "a"}}, "two labels in id2label have one name"),
    ],
)
def test_a_folder_that_is_not_read_is_named(
    file: str, values: dict[str, Any], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write("bert", "ForSequenceClassification", tmp_path / "theirs")
    change(tmp_path / "theirs" / file, **values)
    capfd.readouterr()
    assert run(["import", str(tmp_path / "theirs"), str(tmp_path / "ours")]) == 2
    line = capfd.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("family", "name", "said"),
    [
        ("bert", "BertTokenizer", {}),
        ("bert", "BertTokenizer", {"do_lower_case": False}),
        ("bert", "BertTokenizerFast", {"do_lower_case": True, "strip_accents": False}),
        ("distilbert", "DistilBertTokenizer", {"tokenize_chinese_chars": False}),
        ("roberta", "RobertaTokenizer", {"add_prefix_space": True}),
        ("roberta", "RobertaTokenizerFast", {}),
    ],
)
def test_what_their_classes_let_a_tokenizer_config_say(
    family: str, name: str, said: dict[str, Any], tmp_path: Path
) -> None:
    write(family, "Model", tmp_path / "theirs")
    change(tmp_path / "theirs" / "tokenizer_config.json", tokenizer_class=name, **said)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    ours = read(str(tmp_path / "theirs")).vocabularies[0]
    for text in ("Walking WALKED talk", "walk Café naïve", "日本walk", "walk  talk"):
        assert ours.wrapped(ours.encode(text)) == theirs(text)["input_ids"], text


WHOLE = {"lstrip": False, "rstrip": True, "normalized": False, "single_word": True, "special": False}


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ({"<new>": 8, "CatX": 9}, None),
        (
            {"the": 5, "cats": 9},  # not read where the other file speaks
            {"8": {"content": "<new>", **WHOLE}, "9": {"content": "CatX", **WHOLE, "single_word": False}},
        ),
    ],
    ids=["added_tokens.json", "tokenizer_config.json"],
)
def test_pieces_added_behind_a_vocab_txt(
    listed: dict[str, int], said: dict[str, Any] | None, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    make("bert", "Model", vocab_size=10).save_pretrained(folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s"]
    (folder / "vocab.txt").write_text("".join(f"{name}\n" for name in pieces), encoding="utf-8")
    (folder / "added_tokens.json").write_text(json.dumps(listed), encoding="utf-8")
    config = {"tokenizer_class": "BertTokenizer"} | ({"added_tokens_decoder": said} if said else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = read(str(folder)).vocabularies[0]
    for text in ("the cats <new> cat", "CatX catx", "the<new>cat xCatXcat", "<new>  the"):
        assert ours.wrapped(ours.encode(text)) == theirs(text)["input_ids"], text


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_special_pieces_of_ones_own_are_found_in_text_both_ways(family: str, tmp_path: Path) -> None:
    """Such as the marks around an entity; those with a role are not: a text that says [SEP] says a word."""
    made = tokenizer(family)
    made.add_tokens(["[E1]", "[/E1]"], special_tokens=True)
    make(family, "Model", vocab_size=len(made)).save_pretrained(tmp_path / "theirs")
    made.save_pretrained(tmp_path / "theirs")
    import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    export_model(tmp_path / "ours", tmp_path / "again")
    vocabulary = read(str(tmp_path / "theirs")).vocabularies[0]
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    for text in ("the [E1] bank [/E1] river", "walk[E1]walk [e1]"):
        ids = made(text)["input_ids"]
        assert vocabulary.wrapped(vocabulary.encode(text)) == ids
        assert again(text)["input_ids"] == ids
    ids = vocabulary.encode("the [E1] bank")
    assert "[E1]" in vocabulary.decode(ids)
    assert not set(vocabulary.encode(f"the {made.sep_token} bank")) & set(vocabulary.roles.values()) - {
        vocabulary.unknown
    }


@pytest.mark.parametrize("listed", [{"<new>": "eight"}, {"<new>": None}])
def test_added_pieces_without_ids(listed: dict[str, Any], tmp_path: Path) -> None:
    make("bert", "Model", vocab_size=10).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n", encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(KotyaError, match=r"no ids or no settings of added tokens"):
        read(str(tmp_path))


def test_a_tuned_models_longest_text_is_kept_both_ways(tmp_path: Path) -> None:
    write("bert", "ForSequenceClassification", tmp_path / "theirs", num_labels=3)
    change(tmp_path / "theirs" / "tokenizer_config.json", model_max_length=12)
    import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    export_model(tmp_path / "ours", tmp_path / "again")
    told = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert told["model_max_length"] == 12
    long, model = "walk " * 30, kotya.load(tmp_path / "ours")
    assert isinstance(model, Classifier)
    pipe = transformers.pipeline("text-classification", str(tmp_path / "again"), top_k=None)
    expected = {one["label"]: one["score"] for one in pipe([long], truncation=True)[0]}
    assert model.classify(long).probabilities == pytest.approx(expected, abs=1e-5)


def test_an_imported_classifier_says_that_tabs_may_part_pairs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write("bert", "ForSequenceClassification", tmp_path / "theirs", num_labels=3)
    import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    (tmp_path / "texts").write_text("walk\ttalk\nwalk\n", encoding="utf-8")
    for options, note in (((), "1 lines with a tab were read as one text"), (("--columns", "-,text"), "")):
        capfd.readouterr()
        (tmp_path / "texts").write_text("walk\ttalk\n" + ("" if options else "walk\n"), encoding="utf-8")
        assert run(["predict", str(tmp_path / "ours"), str(tmp_path / "texts"), *options]) == 0
        assert (note in capfd.readouterr().err) if note else not capfd.readouterr().err


def test_an_imported_tagger_is_measured_by_its_types(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gold").write_text("walk\tB-PER\ntalk\tO\n", encoding="utf-8")
    for number, (labels, said) in enumerate(
        (
            (["O", "I-PER", "I-LOC"], ""),  # IOB1, in which a B is rare
            (
                ["I-LOC", "O", "B-LOC"],
                "gold:1: the type 'PER' stands nowhere in the training data; there are LOC",
            ),
            (["NOUN", "VERB", "O"], "'NOUN' is no tag of entities"),
        )
    ):
        theirs, ours = tmp_path / f"theirs{number}", tmp_path / f"ours{number}"
        write("bert", "ForTokenClassification", theirs, id2label=dict(enumerate(labels)))
        import_model(str(theirs), ours)
        capfd.readouterr()
        assert run(["evaluate", str(ours), str(tmp_path / "gold")]) == (2 if said else 0)
        assert said in capfd.readouterr().err


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_untied_embeddings_matter_to_what_fills_in_masks_alone(family: str, tmp_path: Path) -> None:
    for ending in ("ForSequenceClassification", "ForMaskedLM"):
        write(family, ending, tmp_path / ending)
        change(tmp_path / ending / "config.json", tie_word_embeddings=False)
    read(str(tmp_path / "ForSequenceClassification"))
    with pytest.raises(KotyaError, match="tie_word_embeddings is False"):
        read(str(tmp_path / "ForMaskedLM"))


def test_a_gap_in_the_names_of_labels_gets_none_that_is_there(tmp_path: Path) -> None:
    write("bert", "ForSequenceClassification", tmp_path / "theirs", num_labels=3)
    change(tmp_path / "theirs" / "config.json", id2label={"0": "A", "1": "LABEL_2"})
    with pytest.raises(KotyaError, match="two labels in id2label have one name"):
        read(str(tmp_path / "theirs"))


def test_rotations_that_are_stretched_are_not_read(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    write("modernbert", "Model", theirs)
    told = json.loads((theirs / "config.json").read_text(encoding="utf-8"))["rope_parameters"]
    told["full_attention"] |= {"rope_type": "yarn", "factor": 4.0}
    change(theirs / "config.json", rope_parameters=told)
    with pytest.raises(KotyaError, match="rope_parameters of full_attention are 'yarn'; read is 'default'"):
        read(str(theirs))


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    write("bert", "Model", tmp_path / "theirs")
    tokenizer("bert", 60).save_pretrained(tmp_path / "small")
    bigger = wordpiece(345)
    bigger.add_tokens([f"extra{number}" for number in range(40)])
    bigger.save(str(tmp_path / "theirs" / "tokenizer.json"))
    with pytest.raises(KotyaError, match="these files do not belong together"):
        read(str(tmp_path / "theirs"))
    write("bert", "Model", tmp_path / "wide")
    make("bert", "Model", vocab_size=2000).save_pretrained(tmp_path / "wide")
    with pytest.raises(
        KotyaError, match=r"pieces, but the model's matrix has 2,000 rows: .* not belong together"
    ):
        read(str(tmp_path / "wide"))


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    write("bert", "Model", tmp_path / "theirs")
    (tmp_path / "theirs" / "model.safetensors").rename(tmp_path / "theirs" / "pytorch_model.bin")
    with pytest.raises(KotyaError, match="is a pickle, which kotya does not load"):
        read(str(tmp_path / "theirs"))
