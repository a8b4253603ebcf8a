"""LoRAs in PEFT's form, both ways, beside the package itself: the same logits, and the same weights after training."""

import copy
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kotya import folder
from kotya.adapt.adapters import BottleneckConfig
from kotya.adapt.attach import AdaptConfig, attach, own
from kotya.adapt.lora import LoRAConfig
from kotya.cli.main import run
from kotya.interop.huggingface import import_model
from kotya.interop.peft_in import import_peft
from kotya.interop.peft_out import export_peft
from kotya.models.bert import MaskedLM
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.packed_batch import pack
from kotya.tasks.packed_batch import read as read_batch
from kotya.tasks.tagging import TaggingFolder
from kotya.text.sequences import Encoded, encode
from tiny_folders import change, texts, write

FAMILIES = ("bert", "roberta", "distilbert", "modernbert", "big_bird")
LABELS = ["a", "b", "c"]
CLASSES = {
    "SEQ_CLS": transformers.AutoModelForSequenceClassification,
    "TOKEN_CLS": transformers.AutoModelForTokenClassification,
}
STILL = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0},
    "modernbert": {},
}
STILL["roberta"] = STILL["big_bird"] = STILL["bert"]
"""Settings without dropout."""


@dataclass(frozen=True)
class Base:
    """An encoder as both have it."""

    theirs: Path
    ours: Path


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    root = tmp_path_factory.mktemp("peft")
    found = {}
    for family in FAMILIES:
        found[family] = Base(root / family, root / f"{family}-ours")
        write(family, "Model", found[family].theirs, **STILL[family])
        import_model(str(found[family].theirs), found[family].ours)
    return found


def theirs(base: Base, task: str) -> transformers.PreTrainedModel:
    """Their model with a head, always the same; a new one, since PEFT works in place."""
    return copy.deepcopy(loaded(base.theirs, task))


@functools.cache
def loaded(path: Path, task: str) -> transformers.PreTrainedModel:
    torch.manual_seed(3)
    return CLASSES[task].from_pretrained(path, num_labels=len(LABELS)).eval()


@torch.no_grad()
def stir(parameters: Any) -> None:
    """An adapter at its start changes nothing, and a test of it would show nothing."""
    torch.manual_seed(4)
    for name, parameter in parameters:
        if "length" in name or "magnitude" in name:
            parameter.mul_(torch.rand_like(parameter) + 0.5)
        else:
            parameter.add_(torch.randn_like(parameter) * 0.2)


def saved(base: Base, task: str, output: Path, *, stirred: bool = True, **settings: Any) -> peft.PeftModel:
    """A LoRA of theirs, and its folder."""
    config = peft.LoraConfig(task_type=task, **settings)
    model = peft.get_peft_model(theirs(base, task), config)
    if stirred:
        stir((name, one) for name, one in model.named_parameters() if one.requires_grad)
    model.save_pretrained(output)
    return model.eval()


def made(base: Base, task: str, output: Path, adapt: AdaptConfig) -> None:
    """An adapter of ours, and its folder."""
    config, vocabularies = folder.read_config(base.ours), folder.read_vocabularies(base.ours)
    if task == "SEQ_CLS":
        config = ClassificationFolder(model=config.model, labels=LABELS, texts=None)
    elif task == "TOKEN_CLS":
        config = TaggingFolder(model=config.model, labels=LABELS)
    model = config.build(vocabularies)
    taken = folder.base_weights(model, base.ours)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(taken.get(name, parameter))
    fresh = folder.trained_beside(model, taken)
    attach(model, adapt, fresh=fresh)
    stir(own(model, fresh=fresh).items())
    of = folder.describe_base(base.ours, output, adapt)
    folder.create(
        output,
        config=config.model_copy(update={"adapter": of}),
        vocabularies=vocabularies,
        recipe=None,
        tensors=own(model, fresh=fresh),
    )


def sequences(path: Path) -> list[Encoded]:
    """Texts and pairs of many lengths."""
    vocabulary = folder.read_vocabularies(path)[0]
    single = encode(vocabulary, [(one,) for one in [*texts(4), " ".join(texts(40))]], 90)
    return [*single, *encode(vocabulary, list(zip(texts(3, 1), texts(3, 2), strict=True)), 90)]


def padded(model: Any, some: list[Encoded]) -> Tensor:
    """Their logits of all of them in one batch; of tags, of the real tokens one after the other.

    BigBird's of each by itself: the last block of a padded batch is the last of all, and short texts end sparseness.
    """
    if model.config.model_type == "big_bird" and len(some) > 1:
        whole = model.get_base_model() if isinstance(model, peft.PeftModel) else model
        rows = []
        for one in some:
            whole.base_model.set_attention_type("block_sparse")
            rows.append(padded(model, [one]))
        return torch.cat(rows)
    lengths = torch.tensor([len(one) for one in some])
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.full(real.shape, model.config.pad_token_id)
    segments = torch.zeros_like(ids)
    for row, one in enumerate(some):
        ids[row, : len(one)] = torch.from_numpy(one.ids).long()
        segments[row, : len(one)] = torch.from_numpy(one.segments()).long()
    options = {"token_type_ids": segments} if model.config.model_type in ("bert", "big_bird") else {}
    logits: Tensor = model(input_ids=ids, attention_mask=real.long(), **options).logits
    return logits if logits.ndim == 2 else logits[real]


def packed(model: nn.Module, some: list[Encoded]) -> Tensor:
    """Ours, in the same order."""
    order = sorted(range(len(some)), key=lambda number: len(some[number]))
    output = read_batch(model, pack([some[number] for number in order]))  # type: ignore[arg-type]
    rows = output.split([1 if len(output) == len(some) else len(some[number]) for number in order])
    return torch.cat([rows[order.index(number)] for number in range(len(some))])


@torch.no_grad()
def compare(path: Path, model: Any, without: transformers.PreTrainedModel) -> None:
    """A folder of ours beside a model of theirs with its LoRA, which is not the model without it."""
    some = sequences(path)
    other = padded(model, some)
    assert float((other - padded(without, some)).abs().max()) > 0.1
    torch.testing.assert_close(packed(folder.load(path).model, some), other, atol=1e-4, rtol=1e-4)


KINDS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "lora_alpha": 12},
    "rank-stabilised": {"r": 4, "lora_alpha": 6, "use_rslora": True},
    "dora": {"r": 2, "lora_alpha": 4, "use_dora": True},
}
THEIRS: list[tuple[str, str, str, Any]] = [
    ("bert", "SEQ_CLS", "lora", ["query", "value"]),
    ("bert", "SEQ_CLS", "dora", "all-linear"),
    ("bert", "TOKEN_CLS", "rank-stabilised", ["key", "output.dense"]),
    ("roberta", "SEQ_CLS", "rank-stabilised", ["key", "attention.output.dense", "intermediate.dense"]),
    ("roberta", "TOKEN_CLS", "dora", ["query"]),
    ("distilbert", "SEQ_CLS", "dora", ["q_lin", "v_lin"]),
    ("distilbert", "TOKEN_CLS", "lora", ["lin1", "lin2"]),
    ("modernbert", "SEQ_CLS", "lora", ["Wqkv", "Wi", "Wo"]),
    ("modernbert", "TOKEN_CLS", "dora", ["Wqkv"]),
    ("big_bird", "SEQ_CLS", "lora", ["query", "value"]),
    ("big_bird", "TOKEN_CLS", "dora", ["query", "output.dense"]),
]
OURS: list[tuple[str, str, str, list[str]]] = [
    ("bert", "SEQ_CLS", "lora", ["attention.query", "attention.value"]),
    ("bert", "SEQ_CLS", "lora", ["attention.query", "pooler.dense"]),
    ("bert", "TOKEN_CLS", "dora", ["encoder.layers.1.*", "layers.2.attention.key"]),
    ("roberta", "SEQ_CLS", "dora", ["attention.output", "feed_forward.outer"]),
    ("roberta", "TOKEN_CLS", "rank-stabilised", ["attention"]),
    ("distilbert", "SEQ_CLS", "rank-stabilised", ["attention.query", "feed_forward"]),
    ("distilbert", "TOKEN_CLS", "lora", ["attention.key"]),
    ("modernbert", "SEQ_CLS", "lora", ["attention.query"]),
    ("modernbert", "SEQ_CLS", "dora", ["attention.query", "attention.value", "feed_forward.inner"]),
    ("modernbert", "TOKEN_CLS", "rank-stabilised", ["attention.value", "attention.key", "attention.output"]),
    ("big_bird", "TOKEN_CLS", "lora", ["attention.query", "feed_forward"]),
]
every_kind = pytest.mark.parametrize("kind", KINDS)


def head_too(family: str) -> dict[str, Any]:
    """What is drawn at random in their models, and kept only where it is named."""
    return {"modules_to_save": ["head"]} if family == "modernbert" else {}


@pytest.mark.parametrize(("family", "task", "kind", "targets"), THEIRS)
def test_9_a_lora_of_theirs_answers_as_in_peft(
    family: str, task: str, kind: str, targets: Any, bases: dict[str, Base], tmp_path: Path
) -> None:
    base = bases[family]
    settings = {**KINDS[kind], **head_too(family), "target_modules": targets}
    model = saved(base, task, tmp_path / "theirs", **settings)
    import_peft(tmp_path / "theirs", tmp_path / "ours", base.ours)
    compare(tmp_path / "ours", model, theirs(base, task))


@pytest.mark.parametrize(("family", "task", "kind", "targets"), OURS)
def test_9_a_lora_of_ours_answers_in_peft_as_here(
    family: str, task: str, kind: str, targets: list[str], bases: dict[str, Base], tmp_path: Path
) -> None:
    base, settings = bases[family], KINDS[kind]
    adapt = LoRAConfig(
        kind="lora",
        rank=settings["r"],
        alpha=settings["lora_alpha"],
        scaling="rank-stabilised" if kind == "rank-stabilised" else "standard",
        dora=kind == "dora",
        targets=tuple(targets),
        norms=family == "roberta",
    )
    made(base, task, tmp_path / "ours", adapt)
    name = export_peft(tmp_path / "ours", tmp_path / "theirs")
    model = peft.PeftModel.from_pretrained(theirs(base, task), tmp_path / "theirs").eval()
    assert name.startswith(type(theirs(base, task)).__name__)
    assert f"num_labels={len(LABELS)}" in name
    compare(tmp_path / "ours", model, theirs(base, task))
    # and back: the same adapter, whatever names its targets go by
    import_peft(tmp_path / "theirs", tmp_path / "again", base.ours)
    compare(tmp_path / "again", model, theirs(base, task))
    if family != "modernbert":  # there, one of theirs is several of ours
        before, after = (load_file(tmp_path / one / "model.safetensors") for one in ("ours", "again"))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("ending", ["Model", "ForMaskedLM"])
def test_9_big_birds_classifier_has_the_layers_activation_where_its_encoder_has_tanh(
    ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base = Base(tmp_path / "base", tmp_path / "base-ours")
    write("big_bird", ending, base.theirs, **STILL["big_bird"])
    import_model(str(base.theirs), base.ours)
    model = saved(base, "SEQ_CLS", tmp_path / "theirs", r=4, target_modules=["query", "key"])
    import_peft(tmp_path / "theirs", tmp_path / "ours", base.ours)
    compare(tmp_path / "ours", model, theirs(base, "SEQ_CLS"))
    export_peft(tmp_path / "ours", tmp_path / "again")
    again = peft.PeftModel.from_pretrained(theirs(base, "SEQ_CLS"), tmp_path / "again").eval()
    compare(tmp_path / "ours", again, theirs(base, "SEQ_CLS"))
    # what is tuned here has the encoder's own pooler
    made(base, "SEQ_CLS", tmp_path / "tuned", LoRAConfig(kind="lora"))
    said = refused(["export", tmp_path / "tuned", tmp_path / "out", "--to", "peft"], capfd)
    assert "big_bird: pooler tanh, where its classifier has gelu_tanh" in said


def test_9_a_lora_on_embeddings_both_ways(bases: dict[str, Base], tmp_path: Path) -> None:
    base = bases["bert"]
    model = saved(base, "SEQ_CLS", tmp_path / "theirs", r=4, target_modules=["word_embeddings", "key"])
    import_peft(tmp_path / "theirs", tmp_path / "ours", base.ours)
    compare(tmp_path / "ours", model, theirs(base, "SEQ_CLS"))
    export_peft(tmp_path / "ours", tmp_path / "again")
    again = peft.PeftModel.from_pretrained(theirs(base, "SEQ_CLS"), tmp_path / "again").eval()
    compare(tmp_path / "ours", again, theirs(base, "SEQ_CLS"))


@every_kind
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_few_steps_of_training_are_theirs(
    family: str, kind: str, bases: dict[str, Base], tmp_path: Path
) -> None:
    base = bases[family]
    targets = ["query", "value"] if family == "bert" else ["q_lin", "lin1"]
    start = {**KINDS[kind], "target_modules": targets}
    model = saved(base, "SEQ_CLS", tmp_path / "start", stirred=False, **start)
    import_peft(tmp_path / "start", tmp_path / "ours", base.ours)
    tuned = folder.load(tmp_path / "ours").model.train()
    model.train()
    some = sequences(base.ours)
    labels = torch.arange(len(some)) % len(LABELS)

    def trained(one: nn.Module, logits: Any) -> Tensor:
        learned = [parameter for parameter in one.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=1e-2, eps=1e-4)
        for _ in range(4):
            F.cross_entropy(logits(one, some), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            return logits(one, some)  # type: ignore[no-any-return]

    before = padded(model, some).detach()
    mine, other = trained(tuned, packed), trained(model, padded)
    assert float((other - before).abs().max()) > 0.1
    torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
    # every single weight
    model.save_pretrained(tmp_path / "end")
    import_peft(tmp_path / "end", tmp_path / "theirs", base.ours)
    weights = dict(tuned.named_parameters())
    for name, tensor in load_file(tmp_path / "theirs" / "model.safetensors").items():
        torch.testing.assert_close(weights[name].detach(), tensor, atol=1e-4, rtol=1e-4)


def test_patterns_that_say_one_rank_are_read(bases: dict[str, Base], tmp_path: Path) -> None:
    base = bases["bert"]
    patterns = {"rank_pattern": {"query": 2, "value": 2}, "alpha_pattern": {"self.(query|value)": 3}}
    model = saved(base, "SEQ_CLS", tmp_path / "theirs", target_modules=["query", "value"], **patterns)
    import_peft(tmp_path / "theirs", tmp_path / "ours", base.ours)
    compare(tmp_path / "ours", model, theirs(base, "SEQ_CLS"))


def test_a_head_comes_before_that_of_the_base_and_its_labels_stay(tmp_path: Path) -> None:
    write("bert", "ForSequenceClassification", tmp_path / "theirs", id2label={0: "x", 1: "y", 2: "z"})
    import_model(str(tmp_path / "theirs"), tmp_path / "base")
    base = Base(tmp_path / "theirs", tmp_path / "base")
    model = saved(base, "SEQ_CLS", tmp_path / "lora", target_modules=["query"])
    assert run(["import", str(tmp_path / "lora"), str(tmp_path / "ours"), "--base", str(base.ours)]) == 0
    compare(tmp_path / "ours", model, theirs(base, "SEQ_CLS"))
    config = folder.read_config(tmp_path / "ours")
    assert isinstance(config, ClassificationFolder)
    assert config.labels == ["x", "y", "z"]
    assert run(["export", str(tmp_path / "ours"), str(tmp_path / "out"), "--to", "peft"]) == 0
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"] == 8


@pytest.fixture(scope="module")
def lora(bases: dict[str, Base], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of theirs, to be spoiled."""
    path = tmp_path_factory.mktemp("lora") / "theirs"
    saved(bases["bert"], "SEQ_CLS", path, target_modules=["query"])
    return path


def spoiled(lora: Path, path: Path, **values: Any) -> Path:
    path.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (path / file).write_bytes((lora / file).read_bytes())
    change(path / "adapter_config.json", **values)
    return path


def refused(words: list[object], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that says why."""
    capfd.readouterr()
    assert run(list(map(str, words))) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peft_type": "IA3"}, "adapters of type 'IA3' are not read; LORA is"),
        ({"task_type": "SEQ_2_SEQ_LM"}, "task_type 'SEQ_2_SEQ_LM' is not read"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"use_qalora": True}, "use_qalora is true"),
        ({"lora_bias": True}, "lora_bias is true"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is true"),
        ({"layers_pattern": ["layer"]}, 'layers_pattern is ["layer"]'),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices is [1, 2]"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is [[0, 2]]"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa', which changes the base"),
        ({"alpha_pattern": {"(query": 4}}, "'(query' is no pattern"),
        ({"rank_pattern": {"layer.1.attention.self.query": 4}}, "one rank and one alpha everywhere"),
        ({"r": 0}, "r: Input should be greater than or equal to 1"),
        ({"r": 4}, "is 8 × 32"),
        ({"r": 33}, "a rank of 33 is larger than the layer, 32 × 32"),
    ],
)
def test_settings_that_are_not_read_are_named(
    values: dict[str, Any],
    message: str,
    lora: Path,
    bases: dict[str, Base],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = spoiled(lora, tmp_path / "theirs", **values)
    assert message in refused(["import", path, tmp_path / "out", "--base", bases["bert"].ours], capfd)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_modules": ["token_type_embeddings"]}, "token_type_embeddings: kotya has no LoRA there"),
        ({"target_modules": ["position_embeddings"]}, "position_embeddings: kotya has no LoRA there"),
        ({"target_modules": ["word_embeddings"], "use_dora": True}, "DoRA on an embedding"),
        ({"modules_to_save": ["word_embeddings"]}, "encoder.embedding.tokens is kept as a whole"),
        ({"modules_to_save": ["layer.0.output.LayerNorm"]}, "but not the norms of all layers"),
    ],
)
def test_places_that_ours_have_not_are_named(
    settings: dict[str, Any],
    message: str,
    bases: dict[str, Base],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    saved(bases["bert"], "SEQ_CLS", tmp_path / "theirs", **{"target_modules": ["query"], **settings})
    command = ["import", tmp_path / "theirs", tmp_path / "out", "--base", bases["bert"].ours]
    assert message in refused(command, capfd)


def test_folders_that_do_not_fit_are_named(
    lora: Path, bases: dict[str, Base], marian: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base, out = bases["bert"], tmp_path / "out"

    def why(source: Path, *options: object) -> str:
        return refused(["import", source, out, *options], capfd)

    assert "an adapter of PEFT's; say whose: --base" in why(lora)
    assert "there is no adapter_config.json" in why(base.theirs, "--base", base.ours)
    assert "`kotya import` makes the base of it" in why(lora, "--base", base.theirs)
    assert "attention.self.query: kotya has no LoRA there" in why(lora, "--base", bases["modernbert"].ours)
    import_model(str(marian), tmp_path / "translator")
    assert "adapters of PEFT's are read for encoders" in why(lora, "--base", tmp_path / "translator")
    made(base, "SEQ_CLS", tmp_path / "ours", LoRAConfig(kind="lora"))
    assert "an adapter; what is adapted is a whole model" in why(lora, "--base", tmp_path / "ours")
    pickled = spoiled(lora, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    assert "a pickle, which kotya does not load" in why(pickled, "--base", base.ours)
    for name, line in (
        ("lora_B.weight", "one of its two matrices is missing"),
        ("classifier.weight", "there is no classifier.weight in it"),
        ("classifier.bias", "classifier.bias is neither there nor in"),
    ):
        cut = spoiled(lora, tmp_path / name)
        tensors = load_file(lora / "adapter_model.safetensors")
        gone = next(key for key in tensors if key.endswith(name))
        del tensors[gone]
        save_file(tensors, cut / "adapter_model.safetensors")
        assert line in why(cut, "--base", base.ours)
    headless = spoiled(lora, tmp_path / "headless")
    tensors = {
        "base_model.model.classifier.weight": torch.zeros(3, 32),
        "base_model.model.classifier.bias": torch.zeros(3),
    }
    save_file(tensors, headless / "adapter_model.safetensors")
    assert "there is no LoRA in it" in why(headless, "--base", base.ours)
    strange = {**load_file(lora / "adapter_model.safetensors"), "base_model.model.bert.extra": torch.ones(1)}
    save_file(strange, headless / "adapter_model.safetensors")
    assert "bert.extra: the model has no such weight" in why(headless, "--base", base.ours)


def test_what_peft_has_not_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write("bert", "ForSequenceClassification", tmp_path / "theirs", num_labels=len(LABELS))
    import_model(str(tmp_path / "theirs"), tmp_path / "base")
    base = Base(tmp_path / "theirs", tmp_path / "base")

    def why(adapt: AdaptConfig | None) -> str:
        path = base.ours
        if adapt is not None:
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            made(base, "SEQ_CLS", path, adapt)
        return refused(["export", path, tmp_path / "out", "--to", "peft"], capfd)

    assert "a whole model; PEFT's form is for adapters" in why(None)
    made(base, "SEQ_CLS", tmp_path / "lora", LoRAConfig(kind="lora"))
    command = ["export", tmp_path / "lora", tmp_path / "out", "--to", "huggingface"]
    assert "no whole model; --to peft writes a LoRA" in refused(command, capfd)
    assert "--base goes with --to peft" in refused([*command, "--base", base.ours], capfd)
    assert "PEFT has no such adapters: of kind houlsby" in why(BottleneckConfig(kind="houlsby", size=4))
    assert not (tmp_path / "out").exists()


def test_a_masked_language_model_both_ways(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With the head that it has: one that was trained cannot be said, nor a LoRA on what is the output's matrix too."""
    write("bert", "ForMaskedLM", tmp_path / "theirs")
    import_model(str(tmp_path / "theirs"), tmp_path / "base")
    model = peft.get_peft_model(
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "theirs"),
        peft.LoraConfig(target_modules=["value"], r=2),
    ).eval()
    stir((name, one) for name, one in model.named_parameters() if one.requires_grad)
    model.save_pretrained(tmp_path / "lora")
    import_peft(tmp_path / "lora", tmp_path / "ours", tmp_path / "base")
    mine, some = folder.load(tmp_path / "ours").model, sequences(tmp_path / "base")
    assert isinstance(mine, MaskedLM)
    with torch.no_grad():
        torch.testing.assert_close(mine.logits(packed(mine, some)), padded(model, some), atol=1e-4, rtol=1e-4)
    export_peft(tmp_path / "ours", tmp_path / "again")
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("lora", "again"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    for targets, line in (
        ("attention.value", "is trained as a whole; PEFT keeps no part of a masked language model's head"),
        ("embedding", "a LoRA on encoder.embedding.tokens, which is the output's matrix too"),
    ):
        adapt = LoRAConfig(kind="lora", rank=2, targets=(targets,))
        made(Base(tmp_path / "theirs", tmp_path / "base"), "", tmp_path / targets, adapt)
        assert line in refused(["export", tmp_path / targets, tmp_path / "out", "--to", "peft"], capfd)
