"""A recipe's errors name the file, the line, the key and the nearest right one; overrides; presets; the schema."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kotya import recipe as recipes
from kotya.errors import KotyaError
from kotya.models.composed import PRESETS, ComposedConfig
from kotya.models.transformer_decoder import TransformerDecoderConfig
from kotya.tasks.translation_recipe import TranslationRecipe, TranslationTraining

TEXT = """task: translation
data:
  train: {source: a.ru, target: a.en}
  cleaning:
    max_length: 50
model:
  preset: transformer-tiny
  dropout: 0.3
training:
  updates: 10
"""


def read(tmp_path: Path, text: str, *overrides: str) -> TranslationRecipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return recipes.read(path, overrides)


def test_a_preset_under_the_settings_given(tmp_path: Path) -> None:
    recipe = read(tmp_path, TEXT)
    assert recipe.model == PRESETS["transformer-tiny"].model_copy(update={"dropout": 0.3})
    word = TEXT.replace("model:\n  preset: transformer-tiny\n  dropout: 0.3\n", "model: transformer-base\n")
    assert read(tmp_path, word).model == PRESETS["transformer-base"]
    assert read(tmp_path, word, "model.dropout=0.5").model.dropout == 0.5


PAIR = """model:
  preset: bahdanau
  dropout: 0.3
  decoder:
    size: 100
"""


def test_a_preset_of_two_parts_under_the_settings_given(tmp_path: Path) -> None:
    text = TEXT.replace("model:\n  preset: transformer-tiny\n  dropout: 0.3\n", PAIR)
    preset = PRESETS["bahdanau"]
    assert isinstance(preset, ComposedConfig)
    decoder = preset.decoder.model_copy(update={"size": 100})
    assert read(tmp_path, text).model == preset.model_copy(update={"dropout": 0.3, "decoder": decoder})
    other = read(tmp_path, text, "model.decoder={kind: transformer, layers: 2}").model
    assert isinstance(other, ComposedConfig)
    assert other.encoder == preset.encoder
    assert other.decoder == TransformerDecoderConfig(kind="transformer", layers=2)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("size", "szie", 10, "'model.decoder.szie'; the nearest is 'size'"),
        ("size: 100", "size: big", 10, "model.decoder.size: "),
        (
            "size: 100",
            "kind: loung",
            10,
            "model.decoder.kind: there is no 'loung'; there are rnn, luong, bahdanau",
        ),
        ("size: 100", "score: dott", 10, "there is no score 'dott'; there are dot, scaled-dot, bilinear"),
        ("dropout", "dropuot", 8, "'model.dropuot'; the nearest is 'dropout'"),
        (
            "preset: bahdanau",
            "kind: seq2sq",
            7,
            "model.kind: there is no 'seq2sq'; there are transformer, seq2seq",
        ),
    ],
)
def test_a_mistake_in_a_part_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    text = TEXT.replace("model:\n  preset: transformer-tiny\n  dropout: 0.3\n", PAIR.replace(old, new, 1))
    with pytest.raises(KotyaError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert f"recipe.yaml:{line}: " in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("dropout", "dropuot", 8, "'model.dropuot'; the nearest is 'dropout'"),
        ("max_length", "max_lenght", 5, "'data.cleaning.max_lenght'; the nearest is 'max_length'"),
        ("training:", "trianing:", 9, "'trianing'; the nearest is 'training'"),
        ("target:", "traget:", 3, "the nearest is 'target'"),
        ("updates: 10", "updates: many", 10, "training.updates"),
        ("transformer-tiny", "transformer-huge", 7, "transformer-huge"),
        ("task: translation", "task: translate", 1, "task"),
        ("  updates: 10", "  updates: 10\n  updates: 20", 11, "'updates' stands there twice"),
        ("updates: 10", "1: 10", 9, "training.1: keys should be strings"),
    ],
)
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    with pytest.raises(KotyaError) as caught:
        read(tmp_path, TEXT.replace(old, new, 1))
    assert str(caught.value).startswith(f"{tmp_path / 'recipe.yaml'}:{line}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BOUNDS = {
    "model": {
        "kind: transformer": [
            *(f"{key}: 0" for key in ("size", "heads", "feed_forward", "encoder_layers", "max_length")),
            *(
                f"{key}: {value}"
                for key in ("dropout", "attention_dropout")
                for value in (-0.1, 1, 1.5, ".nan")
            ),
            "heads: 3",
            "preset: bahdanau",
            "preset: [a]",
        ],
        "heads: 1": ["size: 9"],
        "preset: transformer-tiny": ["kind: seq2seq", "decoder_layers: -1", "decoder: {size: 3}"],
        "preset: rnn": ["kind: transformer", "dropout: 1", "heads: 3", "share: output"],
    },
    "training": {
        "epochs: 1": [
            *(f"learning_rate: {value}" for value in (0, -1, ".inf", ".nan")),
            *(
                f"betas: {value}"
                for value in ("[1, 0.9]", "[0.9, 1.0]", "[-0.1, 0.9]", "[.nan, 0.9]", "[0.9]")
            ),
            *(f"seed: {value}" for value in (-1, 1 << 32)),
            *(f"{key}: .inf" for key in ("weight_decay", "clip", "r_drop", "minutes", "label_smoothing")),
            "updates: 10",
            "guided_alignment: {layer: 0}",
            "guided_alignment: {head: 0}",
        ],
    },
    "search": {
        "beam: 4": ["nbest: 5", "length_penalty: .nan", "max_length_ratio: .inf", "coverage_penalty: -1"],
    },
    "vocabulary": {"joint: true": ["size: 260", "dropout: 1"]},
}


@pytest.mark.parametrize(
    ("section", "given", "wrong"),
    [
        (section, given, one)
        for section, lists in BOUNDS.items()
        for given, many in lists.items()
        for one in many
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_line(
    tmp_path: Path, section: str, given: str, wrong: str
) -> None:
    sections = {"model": "  preset: transformer-tiny\n", "training": "  updates: 10\n"}
    sections[section] = f"  {given}\n  {wrong}\n"
    text = "task: translation\ndata:\n  train: {source: a.ru, target: a.en}\n"
    text += "".join(f"{name}:\n{content}" for name, content in sections.items())
    with pytest.raises(KotyaError) as caught:
        read(tmp_path, text)
    key = wrong.partition(":")[0]
    line, message = str(caught.value).removeprefix(f"{tmp_path / 'recipe.yaml'}:").split(": ", 1)
    named = text.splitlines()[int(line) - 1].strip()
    assert named in (given, wrong)  # of two that exclude each other, either
    assert f"{section}.{key}" in message or f"{section}.{given.partition(':')[0]}" in message


def test_two_vocabularies_share_no_matrix(tmp_path: Path) -> None:
    with pytest.raises(KotyaError, match=r"recipe.yaml:6: model\.share: all needs one vocabulary"):
        read(tmp_path, TEXT, "vocabulary.joint=false")
    assert read(tmp_path, TEXT, "vocabulary.joint=false", "model.share=output").model.share == "output"
    with pytest.raises(KotyaError, match="280 source and 300 target pieces"):
        read(tmp_path, TEXT, "model.share=all").model.build(280, 300)


def test_a_budget_is_needed(tmp_path: Path) -> None:
    with pytest.raises(KotyaError, match=r"recipe.yaml:9: training: .*`updates`"):
        read(tmp_path, TEXT.replace("updates: 10", "warmup: 10"))


@pytest.mark.parametrize("text", ["a: [", "- list", "", "a: b: c"])
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(KotyaError, match=r"recipe\.yaml"):
        read(tmp_path, text)


def test_overrides_are_typed_and_checked(tmp_path: Path) -> None:
    recipe = read(tmp_path, TEXT, "training.updates=77", "search.beam=3", "data.cleaning.max_ratio=2.5")
    assert (recipe.training.updates, recipe.search.beam, recipe.data.cleaning.max_ratio) == (77, 3, 2.5)
    for bad in ("training.updats=1", "training", "=1", "task.x=1"):
        with pytest.raises(KotyaError):
            read(tmp_path, TEXT, bad)


def test_the_written_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    recipe = read(tmp_path, TEXT)
    assert read(tmp_path, recipe.to_yaml()) == recipe


def test_the_root_is_the_recipe_s_then_the_variable_then_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KOTYA_DATA", raising=False)
    assert read(tmp_path, TEXT).data_root() == Path("data")
    monkeypatch.setenv("KOTYA_DATA", "/elsewhere")
    assert read(tmp_path, TEXT).data_root() == Path("/elsewhere")
    assert read(tmp_path, TEXT, "data.root=mine").data_root() == Path("mine")


def test_the_schema_knows_every_key_and_its_help() -> None:
    schema = recipes.schema()
    json.dumps(schema)
    training = schema["$defs"]["TranslationTraining"]["properties"]
    assert set(training) == set(TranslationTraining.model_fields)
    assert "learning rate rises" in training["warmup"]["description"]


@given(st.text())
def test_no_text_makes_a_traceback(text: str) -> None:
    """Whatever stands in the file, the answer is a recipe or a KotyaError."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return
    if isinstance(content, dict):
        with pytest.raises(KotyaError):
            recipes.parse(content, "x")


def test_a_language_model_is_bpe_whatever_else_is_said() -> None:
    plan = {"task": "language_model", "data": {"train": "a"}, "training": {"updates": 1, "tokens": 9}}
    plan["model"] = {"size": 8, "heads": 2, "layers": 1, "feed_forward": 8}
    for vocabulary in (
        {},
        {"vocabulary": None},
        {"vocabulary": {"size": 400}},
        {"vocabulary": {"size": None}},
    ):
        made = recipes.parse(plan | vocabulary, "x")
        assert made.vocabulary is not None
        assert made.vocabulary.kind == "bpe"  # type: ignore[union-attr]
        assert made.vocabulary.size == (400 if vocabulary.get("vocabulary") == {"size": 400} else 8000)
    with pytest.raises(KotyaError, match="betas"):
        recipes.parse(plan | {"training": {"updates": 1, "tokens": 9, "betas": [1.0, 1.5]}}, "x")


def test_the_recipes_of_the_repository_are_valid_and_read_back_as_themselves() -> None:
    found = sorted((Path(__file__).parent.parent / "recipes").rglob("*.yaml"))
    assert found
    for path in found:
        recipe = recipes.read(path)
        assert recipes.parse(yaml.safe_load(recipe.to_yaml()), "written") == recipe
