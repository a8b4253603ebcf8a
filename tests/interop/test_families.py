"""Weights of every family, in and out: hidden vectors and logits are those of `transformers` (promise 9)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from kotya.attention.packed import Packing
from kotya.errors import KotyaError
from kotya.interop.bert import BERT, DISTILBERT, ROBERTA
from kotya.interop.family import Family, Head, ours_of, theirs_of
from kotya.interop.modernbert import MODERNBERT, global_every, layer_types
from kotya.models.bert import Bert, BertConfig, MaskedLM
from kotya.models.heads import SequenceModel, TokenModel
from tiny_encoders import LONGEST, PAD, SETTINGS, STEMS, VOCABULARY, batch, make, outputs

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "distilbert": DISTILBERT,
    "roberta": ROBERTA,
    "modernbert": MODERNBERT,
}
every = pytest.mark.parametrize("family", FAMILIES)
batches = pytest.mark.parametrize(
    ("lengths", "pairs"), [((7, 12, 1, 12, 3), False), ((9, 20), True), ((LONGEST, 40), False)], ids=str
)
ENDINGS: dict[Head, str] = {
    "masked_lm": "ForMaskedLM",
    "classification": "ForSequenceClassification",
    "tagging": "ForTokenClassification",
}


def build(settings: BertConfig, head: Head, *, pooler: bool = True, next_sentence: bool = False) -> nn.Module:
    if head == "encoder":
        return nn.ModuleDict({"encoder": settings.build(VOCABULARY, pooler=pooler)})
    if head == "masked_lm":
        return MaskedLM(settings.build(VOCABULARY, pooler=next_sentence), next_sentence=next_sentence)
    if head == "classification":
        return SequenceModel(settings.build(VOCABULARY), 3)
    return TokenModel(settings.build(VOCABULARY, pooler=False), 3)


def imported(family: str, theirs: transformers.PreTrainedModel, head: Head, **options: bool) -> nn.Module:
    settings = FAMILIES[family].settings(theirs.config.to_dict(), head, Path("config.json"))
    model = build(settings, head, **options).eval()
    found, _ = ours_of(
        FAMILIES[family],
        theirs.state_dict(),
        model.state_dict(),
        settings,
        head,
        PAD[family],
        Path("model.safetensors"),
    )
    model.load_state_dict(found)
    return model


def packed(real: Tensor, ids: Tensor, segments: Tensor, model: Bert) -> tuple[Tensor, Packing, Tensor | None]:
    packing = Packing.of(real.sum(1).tolist())
    segments_of = segments[real.bool()] if model.config.segments > 1 else None
    return ids[real.bool()], packing, segments_of


def close(ours: Tensor, theirs: Tensor) -> None:
    assert float(theirs.std()) > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@every
@batches
@torch.no_grad()
def test_hidden_vectors_are_theirs(family: str, lengths: tuple[int, ...], pairs: bool) -> None:
    theirs = make(family, "Model")
    ids, real, segments = batch(family, lengths, pairs=pairs)
    model = imported(family, theirs, "encoder", pooler=family in ("bert", "roberta"))
    encoder = model.get_submodule("encoder")
    assert isinstance(encoder, Bert)
    tokens, packing, parts = packed(real, ids, segments, encoder)
    hidden = encoder(tokens, packing, parts)
    expected = outputs(theirs, ids, real, segments)
    close(hidden, expected.last_hidden_state[real.bool()])
    if encoder.pooler is not None:
        close(encoder.pooled(hidden, packing), expected.pooler_output)


@every
@batches
@pytest.mark.parametrize("head", ENDINGS)
@torch.no_grad()
def test_logits_are_theirs(family: str, head: Head, lengths: tuple[int, ...], pairs: bool) -> None:
    theirs = make(family, ENDINGS[head], num_labels=3)
    model = imported(family, theirs, head)
    check_logits(model, theirs, batch(family, lengths, pairs=pairs))


def check_logits(
    model: nn.Module, theirs: transformers.PreTrainedModel, texts: tuple[Tensor, Tensor, Tensor]
) -> None:
    ids, real, segments = texts
    encoder = model.get_submodule("encoder")
    assert isinstance(encoder, Bert)
    tokens = packed(real, ids, segments, encoder)
    said = model(*tokens)
    if isinstance(model, MaskedLM):
        said = model.logits(said)
    expected = outputs(theirs, ids, real, segments).logits
    close(said, expected if isinstance(model, SequenceModel) else expected[real.bool()])


@torch.no_grad()
def test_mean_pooling_of_modernbert() -> None:
    theirs = make("modernbert", "ForSequenceClassification", num_labels=3, classifier_pooling="mean")
    check_logits(
        imported("modernbert", theirs, "classification"), theirs, batch("modernbert", (7, 30), pairs=False)
    )


@torch.no_grad()
def test_a_pretrained_bert_with_next_sentence() -> None:
    theirs = make("bert", "ForPreTraining")
    model = imported("bert", theirs, "masked_lm", next_sentence=True)
    assert isinstance(model, MaskedLM)
    ids, real, segments = batch("bert", (9, 20, 5), pairs=True)
    tokens, packing, parts = packed(real, ids, segments, model.encoder)
    hidden = model(tokens, packing, parts)
    expected = outputs(theirs, ids, real, segments)
    close(model.logits(hidden), expected.prediction_logits[real.bool()])
    close(model.next_sentence_logits(hidden, packing), expected.seq_relationship_logits)


OURS: dict[str, dict[str, Any]] = {
    "bert": {"norm_epsilon": 1e-5, "activation": "swish", "segments": 3},
    "distilbert": {"segments": 0, "pooler": "relu"},
    "roberta": {"segments": 1, "activation": "relu"},
    "modernbert": {
        "norm": "pre",
        "bias": False,
        "positions": "rotary",
        "rotary_base": 500.0,
        "local": 6,
        "global_every": 2,
        "local_rotary_base": 70.0,
        "norm_epsilon": 1e-6,
        "segments": 0,
        "pooler": "gelu",
        "pooling": "mean",
        "activation": "swiglu",
    },
}


@every
@pytest.mark.parametrize("head", ["encoder", *ENDINGS])
@torch.no_grad()
def test_what_is_written_is_read_by_transformers(family: str, head: Head, tmp_path: Path) -> None:
    """From our settings and weights to theirs, through their own loading, which names weights it misses."""
    own = OURS[family] | ({"activation": "gelu"} if family == "bert" and head == "masked_lm" else {})
    settings = BertConfig(size=16, heads=2, layers=4, feed_forward=24, max_length=50, **own)
    torch.manual_seed(3)
    model = build(settings, head, pooler=family in ("bert", "roberta")).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    assert FAMILIES[family].lacks(settings, head) is None
    ours = {name: parameter.detach() for name, parameter in model.named_parameters()}
    weights = theirs_of(FAMILIES[family], ours, settings, head, PAD[family])
    content = FAMILIES[family].content(settings, PAD[family])
    content |= {"vocab_size": VOCABULARY, "pad_token_id": PAD[family], "num_labels": 3, "model_type": family}
    (tmp_path / "config.json").write_text(json.dumps(content))
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    kind = getattr(transformers, STEMS[family] + ENDINGS.get(head, "Model"))
    without = {"add_pooling_layer": True} if head == "encoder" and family in ("bert", "roberta") else {}
    theirs, loading = kind.from_pretrained(tmp_path, output_loading_info=True, **without)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    if head == "encoder":
        ids, real, segments = batch(family, (7, 50, 12), pairs=True)
        encoder = model.get_submodule("encoder")
        assert isinstance(encoder, Bert)
        hidden = encoder(*packed(real, ids, segments, encoder))
        close(hidden, outputs(theirs.eval(), ids, real, segments).last_hidden_state[real.bool()])
    else:
        check_logits(model, theirs.eval(), batch(family, (7, 50, 12), pairs=True))
    assert FAMILIES[family].settings(content, head, tmp_path) == settings


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bert", {"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; read is 'gelu'"),
        ("bert", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"num_attention_heads": 5}, "5 heads cannot share size 32"),
        ("roberta", {"hidden_size": "wide"}, "hidden_size"),
        ("distilbert", {"activation": "mish"}, "activation is 'mish'"),
        ("modernbert", {"norm_bias": True}, "norm_bias"),
        ("modernbert", {"layer_types": ["sliding_attention"] * 5}, "layer_types"),
    ],
)
def test_what_is_not_read_is_named(family: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KotyaError, match=message) as caught:
        FAMILIES[family].settings(SETTINGS[family] | changes, "masked_lm", Path("there/config.json"))
    assert str(caught.value).startswith("there/config.json: ")


def test_weights_that_are_missing_or_of_another_shape_are_named() -> None:
    theirs = make("bert", "Model")
    settings = BERT.settings(theirs.config.to_dict(), "encoder", Path("c"))
    wanted = build(settings, "encoder").state_dict()

    def read(stored: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        return ours_of(BERT, stored, wanted, settings, "encoder", 0, Path("m.safetensors"))

    stored = theirs.state_dict()
    gone = {name: tensor for name, tensor in stored.items() if "layer.1.output.dense" not in name}
    with pytest.raises(
        KotyaError, match=r"m.safetensors: bert\.encoder\.layer\.1\.output\.dense\.\w+ is missing"
    ):
        read(gone)
    with pytest.raises(KotyaError, match=r"pooler.dense.bias is 31, but config.json makes .* 32"):
        read(stored | {"pooler.dense.bias": torch.zeros(31)})
    assert read(stored | {"other.weight": torch.zeros(1)})[1] == ["other.weight"]


def test_old_names_of_norms_are_read() -> None:
    theirs = make("bert", "Model")
    settings = BERT.settings(theirs.config.to_dict(), "encoder", Path("c"))
    wanted = build(settings, "encoder").state_dict()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in theirs.state_dict().items()
    }
    assert old.keys() != theirs.state_dict().keys()
    one, other = (
        ours_of(BERT, stored, wanted, settings, "encoder", 0, Path("m"))[0]
        for stored in (old, theirs.state_dict())
    )
    assert all(torch.equal(one[name], other[name]) for name in wanted)


@pytest.mark.parametrize(("layers", "every"), [(22, 3), (4, 2), (5, 5), (3, 2)])
def test_layer_types_follow_a_rule(layers: int, every: int) -> None:
    assert global_every(layer_types(layers, every)) == every
    assert global_every(["full_attention"] * layers) is None
    assert global_every(["sliding_attention"] * layers) == 0


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("bert", {"norm": "pre"}),
        ("bert", {"segments": 0}),
        ("bert", {"activation": "geglu"}),
        ("distilbert", {}),
        ("modernbert", {}),
        ("roberta", {"pooling": "mean"}),
    ],
)
def test_an_encoder_that_a_family_does_not_know(family: str, options: dict[str, Any]) -> None:
    assert FAMILIES[family].lacks(BertConfig(**options), "encoder") is not None
