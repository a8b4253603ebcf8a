"""Adapters in models of every kind: where they stand, what is trained, and that nothing else ever changes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kotya.adapt.attach import absorb, attach, detach, own, targets
from kotya.adapt.place import Route, places, routed
from kotya.attention.packed import Packing
from kotya.errors import KotyaError
from kotya.models.bert import BertConfig
from kotya.models.heads import SequenceModel, TokenModel
from kotya.models.lm import LanguageModelConfig
from kotya.models.seq2seq import Seq2Seq
from tiny_adapters import ADAPTERS, BLOCK, MODELS, PIECES, built, config, distance, outputs, recurrent, shaken

NEAR = {"lora": 0.0, "rslora": 0.0, "dora": 1e-6, "houlsby": 0.01, "pfeiffer": 0.01, "parallel": 0.1}
"""How far outputs are from the base's where an adapter begins, at most: a share of their length."""


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("model", MODELS)
def test_an_adapter_begins_at_the_base_is_all_that_is_trained_and_leaves_no_trace(
    model: str, kind: str
) -> None:
    base = built(model)
    before = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}
    names = {id(parameter): name for name, parameter in base.named_parameters()}
    next(base.parameters()).requires_grad_(False)
    was_trained = [parameter.requires_grad for parameter in base.parameters()]
    with torch.no_grad():
        expected = outputs(base)
    attach(base, config(**ADAPTERS[kind]))
    mine = own(base)
    with torch.no_grad():
        found = outputs(base)
    assert distance(found, expected) <= NEAR[kind]

    frozen = [one for one in base.parameters() if id(one) in names]
    assert not any(parameter.requires_grad for parameter in frozen)
    optimizer = torch.optim.Adam(mine.values(), lr=0.03)
    for step in range(2):
        outputs(base).square().mean().backward()
        for name, parameter in mine.items():
            assert parameter.grad is not None, name
            if step:
                assert parameter.grad.any(), name  # at first B is zero, and A has no gradient
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        assert not torch.equal(outputs(base), expected)
    assert all(torch.equal(before[names[id(parameter)]], parameter) for parameter in frozen)

    detach(base)
    assert {name: id(one) for name, one in base.named_parameters()} == {
        name: one for one, name in names.items()
    }
    assert [parameter.requires_grad for parameter in base.parameters()] == was_trained
    with torch.no_grad():
        assert torch.equal(outputs(base), expected)


def to_copy(kind: str) -> nn.Module:
    """A model with random weights that has an output for every piece: BERT's drawn larger, or none would be likely."""
    torch.manual_seed(3)
    if kind == "bert":
        tagger = TokenModel(BertConfig(layers=2, attention_dropout=0.0, **BLOCK).build(PIECES), PIECES)
        nn.init.normal_(tagger.head.weight, std=0.5)
        return tagger
    model: nn.Module = MODELS[kind]()
    if kind == "lm":
        nn.init.normal_(model.decoder.embedding.tokens, std=0.5)
    return model


def copying(model: nn.Module) -> Tensor:
    """The loss of saying four texts of three pieces again: after reading the text, a tagger each piece when it is read.

    A language model, whose output is its embedding, would do that untrained: it says the piece before.
    """
    texts = torch.randint(2, PIECES, (4, 3), generator=torch.Generator().manual_seed(0))
    if isinstance(model, Seq2Seq):
        before = torch.cat([torch.ones_like(texts[:, :1]), texts[:, :-1]], dim=1)
        logits = model.decoder.output(model(texts, torch.full((4,), 3), before))
    else:
        hidden = model(texts.flatten(), Packing.of([3] * 4, torch.device("cpu")))
        logits = hidden if isinstance(model, TokenModel) else model.decoder.output(hidden)
        if not isinstance(model, TokenModel):
            texts = torch.cat([texts[:, :1], texts[:, :-1]], dim=1)
    return F.cross_entropy(logits.reshape(-1, PIECES), texts.flatten())


@pytest.mark.parametrize("kind", ["lora", "dora", "houlsby", "pfeiffer", "parallel"])
@pytest.mark.parametrize("model", ["rnn gru", "bahdanau", "cnn", "transformer", "bert", "lm"])
def test_copying_is_learned_by_an_adapter_alone(model: str, kind: str) -> None:
    adapted = to_copy(model)
    lora = {"rank": 8, "targets": ["attention", "feed_forward"] if model in ("bert", "lm") else None}
    attach(adapted, config(**ADAPTERS[kind] | (lora if "rank" in ADAPTERS[kind] else {})))
    optimizer = torch.optim.Adam(own(adapted).values(), lr=0.05)
    with torch.no_grad():
        before = copying(adapted)
    for _ in range(20):
        optimizer.zero_grad()
        copying(adapted).backward()
        optimizer.step()
    with torch.no_grad():
        assert copying(adapted) < 0.7 * before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["lora", "dora", "houlsby", "parallel"])
@pytest.mark.parametrize("model", ["bert", "luong"])
def test_a_base_in_another_type_is_adapted_in_it(model: str, kind: str, dtype: torch.dtype) -> None:
    adapted = built(model).to(dtype)
    attach(adapted, config(**ADAPTERS[kind]))
    mine = own(adapted)
    shaken(mine)
    found = outputs(adapted)
    found.float().square().mean().backward()
    kept = torch.promote_types(dtype, torch.float32) if kind in ("lora", "dora") else dtype
    assert {one.dtype for one in mine.values()} == {kept}
    assert all(one.grad is not None and one.grad.isfinite().all() for one in mine.values())
    expected = outputs(adapted.float())
    assert distance(found.detach().float(), expected) < (0.05 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_one_vector_is_a_row_of_many(kind: str) -> None:
    torch.manual_seed(0)
    holder = nn.ModuleDict({"layer": nn.Linear(6, 5)})
    attach(holder, config(**ADAPTERS[kind], targets=["layer"]))
    shaken(own(holder))
    x = torch.randn(2, 3, 6)
    rows = holder["layer"](x)
    torch.testing.assert_close(holder["layer"](x[1, 2]), rows[1, 2])
    torch.testing.assert_close(holder["layer"](x.transpose(0, 1)), rows.transpose(0, 1))


@pytest.mark.parametrize("held", ["float32", "int8"])
@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("model", ["bert", "transformer", "luong", "bahdanau"])
def test_in_bfloat16_an_adapter_computes_what_it_does_in_float32(model: str, kind: str, held: str) -> None:
    adapted = built(model)
    attach(adapted, config(**ADAPTERS[kind], held=held))
    shaken(own(adapted))
    expected = outputs(adapted)
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs(adapted)
        found.float().square().mean().backward()
    assert (found - expected).abs().max() < 0.03 * expected.abs().max()
    assert all(parameter.grad is not None for parameter in own(adapted).values())


def test_bottlenecks_by_their_formula() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    x = torch.randn(4, 6)
    for kind in ("houlsby", "parallel"):
        holder = nn.ModuleDict({"layer": layer})
        attach(holder, config(kind=kind, size=3, activation="relu", targets=["layer"]))
        shaken(own(holder))
        part = holder["layer"].parts["adapter"]
        y = layer(x)
        read, scale = (x, 4.0) if kind == "parallel" else (y, 1.0)
        hidden = (read @ part.down.weight.T + part.down.bias).clamp_min(0)
        assert torch.allclose(
            holder["layer"](x), y + scale * (hidden @ part.up.weight.T + part.up.bias), atol=1e-6
        )
        detach(holder)


def test_embeddings_take_low_rank_changes_and_what_shares_their_matrix_does_not() -> None:
    model = built("transformer")
    table = model.encoder.embedding.weight
    attach(model, config(kind="lora", rank=2, targets=["embedding"]))
    assert model.decoder.output_weights()[0] is table
    shaken(own(model))
    outputs(model).sum().backward()
    assert all(parameter.grad is not None for parameter in own(model).values())
    assert not torch.equal(model.encoder.embedding.weight, table)
    detach(model)
    assert model.encoder.embedding.weight is table


def test_patterns_name_layers_by_their_ends_and_parts_by_all_that_is_in_them() -> None:
    model = built("bert")
    both = targets(model, config(kind="lora", targets=["attention.query"]))
    assert both == [f"encoder.layers.{layer}.attention.query" for layer in range(2)]
    inside = targets(model, config(kind="lora", targets=["encoder.layers.1.feed_forward"]))
    assert inside == [f"encoder.layers.1.feed_forward.{name}" for name in ("inner", "outer")]
    assert targets(model, config(kind="lora", targets=["layers.0.*"])) == [
        f"encoder.layers.0.{name}"
        for name in (
            *(f"attention.{one}" for one in ("query", "key", "value", "output")),
            *(f"feed_forward.{one}" for one in ("inner", "outer")),
        )
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "lora", "targets": ["attention.querry"]}, ["attention.querry", "nearest: attention.query"]),
        ({"kind": "lora", "targets": ["embedding.dropout"]}, ["no layer to adapt"]),
        ({"kind": "lora", "rank": 17}, ["rank of 17 is larger than the layer, 16 × 16"]),
        ({"kind": "lora", "targets": ["encoder.embedding"], "dora": True}, ["DoRA is for linear layers"]),
        ({"kind": "lora", "targets": ["query", "embedding"], "dora": True}, ["DoRA is for linear layers"]),
    ],
)
def test_what_cannot_be_adapted_is_said(settings: dict[str, Any], words: list[str]) -> None:
    model = built("bert")
    before = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(KotyaError) as caught:
        attach(model, config(**settings))
    assert all(word in str(caught.value) for word in words), caught.value
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_model_without_layer_norms_has_none_to_train() -> None:
    attach(built("cnn"), config(kind="houlsby"))  # which trains them where there are some
    with pytest.raises(KotyaError, match="no layer norms to train"):
        attach(built("cnn"), config(kind="lora", norms=True))


def test_two_adapters_at_one_place_that_cannot_be_combined() -> None:
    model = built("bert")
    attach(model, config(kind="lora", targets=["attention.output"]), name="one")
    with pytest.raises(KotyaError, match=r"attention\.output: two adapters that cannot stand at one place"):
        attach(model, config(kind="houlsby"), name="two")
    model = built("bert")
    attach(model, config(kind="houlsby"), name="one")
    with pytest.raises(KotyaError, match=r"attention\.output: two adapters that cannot stand at one place"):
        attach(model, config(kind="lora", targets=["attention.*"]), name="two")
    model = built("bert")
    attach(model, config(kind="lora", targets=["embedding"]), name="one")
    with pytest.raises(KotyaError, match=r"embedding: two adapters that cannot stand at one place"):
        attach(model, config(kind="lora", targets=["embedding"]), name="two")


INNER = {"kind": "lora", "rank": 4, "targets": ["feed_forward.inner"]}


@pytest.mark.parametrize(
    ("first", "second"),
    [(ADAPTERS["houlsby"], ADAPTERS["houlsby"]), (ADAPTERS["houlsby"], INNER), (INNER, ADAPTERS["houlsby"])],
)
def test_an_adapter_beside_another_is_what_it_is_alone(first: dict[str, Any], second: dict[str, Any]) -> None:
    alone = built("bert")
    attach(alone, config(**second))
    shaken(own(alone))
    stored, expected = own(alone), outputs(alone)
    model = built("bert")
    before = list(model.named_parameters())
    attach(model, config(**first), name="first")
    attach(model, config(**second), name="second")
    shaken(own(model, "first"), 8)
    mine = own(model, "second")
    assert mine.keys() == stored.keys()
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(stored[name])
        with routed("second"):
            assert torch.allclose(outputs(model), expected, atol=1e-6)
    detach(model)
    assert [(name, id(one)) for name, one in model.named_parameters()] == [(n, id(p)) for n, p in before]


def test_an_embeddings_change_is_that_adapters_alone() -> None:
    model = built("bert")
    expected = outputs(model)
    attach(model, config(kind="lora", rank=2, targets=["embedding"]), name="a")
    attach(model, config(kind="lora", rank=2), name="b")
    assert {name.rpartition(".")[2] for name in own(model, "a")} == {"down", "up"}
    assert all(".parametrizations." in name for name in own(model, "a"))
    assert own(model, "b")
    assert not any(".parametrizations." in name for name in own(model, "b"))
    shaken(own(model, "a"))
    with routed("b"):
        assert torch.equal(outputs(model), expected)
    with routed("a"):
        assert not torch.allclose(outputs(model), expected, rtol=0.1)


@pytest.mark.parametrize("model", ["rnn gru", "luong"])
def test_no_bottleneck_stands_at_a_weight_that_a_loop_multiplies_by(model: str) -> None:
    with pytest.raises(KotyaError, match="in which there is no layer to adapt"):
        attach(built(model), config(kind="houlsby", targets=["recurrent.0"]))
    everywhere = built(model)
    attach(everywhere, config(kind="houlsby", size=2, targets=["*"]))
    outputs(everywhere).sum().backward()
    assert all(parameter.grad is not None for parameter in own(everywhere).values())


def test_places_may_stand_in_one_another() -> None:
    model = built("bert")
    attach(model, config(kind="pfeiffer", size=4, targets=["feed_forward", "feed_forward.inner"]))
    assert len(places(model)) == 4
    outputs(model).sum().backward()
    assert all(parameter.grad is not None for parameter in own(model).values())


@pytest.mark.parametrize("kind", ["lora", "pfeiffer"])
def test_a_fresh_head_is_no_place_whatever_the_pattern(kind: str) -> None:
    model = built("bert")
    fresh = ["head.weight", "head.bias"]
    attach(model, config(kind=kind, targets=["*"]), fresh=fresh)
    trained = {id(one) for one in model.parameters() if one.requires_grad}
    assert {id(one) for one in own(model, fresh=fresh).values()} == trained
    assert set(fresh) < own(model, fresh=fresh).keys()
    with pytest.raises(KotyaError, match="'head' names head, in which there is no layer to adapt"):
        attach(built("bert"), config(kind=kind, targets=["head"]), fresh=fresh)


def test_heads_and_fresh_weights_are_trained_and_features_of_attention_are_not() -> None:
    settings = BertConfig(
        layers=1,
        attention_dropout=0.0,
        attention=({"kind": "linear", "features": "favor", "size": 8},),
        **BLOCK,
    )
    model = SequenceModel(settings.build(PIECES), 2)
    fresh = [name for name, _ in model.named_parameters() if name.startswith("head.") or ".form." in name]
    attach(model, config(kind="head"), fresh=fresh)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"head.weight", "head.bias"}
    assert set(own(model, fresh=fresh)) == set(fresh)


def test_what_each_kind_trains_and_where_it_stands() -> None:
    """Behind both layers of a block, with its norms (Houlsby et al. 2019, figure 2); or one (Pfeiffer et al. 2021)."""
    blocks = [f"encoder.layers.{number}" for number in range(2)]
    attention = {f"{block}.attention.output" for block in blocks}
    feed_forward = {f"{block}.feed_forward" for block in blocks}
    norms = {f"{block}.{layer}_residual.norm" for block in blocks for layer in ("attention", "feed_forward")}
    expected = {
        "houlsby": attention | feed_forward | norms,
        "pfeiffer": feed_forward,
        "parallel": feed_forward,
        "lora": {f"{block}.attention.{name}" for block in blocks for name in ("query", "value")},
    }
    for kind, names in expected.items():
        model = built("bert")
        attach(model, config(kind=kind))
        assert set(places(model)) == names, kind


@pytest.mark.parametrize("kind", ["lora", "dora", "houlsby", "parallel"])
def test_dropout_is_drawn_in_training_and_not_in_use(kind: str) -> None:
    model = built("bert")
    attach(model, config(**ADAPTERS[kind], dropout=0.5))
    shaken(own(model))
    for place in places(model).values():
        place.train()
    with torch.no_grad():
        assert distance(outputs(model), outputs(model)) > 1e-3
        model.eval()
        assert torch.equal(outputs(model), outputs(model))


def test_random_features_of_the_base_are_not_drawn_anew() -> None:
    settings = {"kind": "linear", "features": "favor", "size": 8, "redraw": 1}
    model = LanguageModelConfig(kind="lm", layers=1, attention=settings, **BLOCK).build(PIECES).train()
    features = {name: one for name, one in model.named_parameters() if ".features." in name}
    assert len(features) == 2

    def changed() -> bool:
        before = {name: one.clone() for name, one in features.items()}
        outputs(model)
        return not any(torch.equal(before[name], one) for name, one in features.items())

    assert changed()
    attach(model, config(kind="lora"))
    assert not changed()
    detach(model)
    assert changed()
    attach(model, config(kind="lora"), fresh=features)  # those that the base lacks are the adapter's
    assert changed()


def test_an_adapters_name_is_its_own() -> None:
    model = built("bert")
    attach(model, config(kind="lora"), name="a")
    before = outputs(model)
    for name, message in (
        ("a", "called 'a' is in the model already"),
        ("a.b", "has no dots"),
        ("", "no dots"),
    ):
        with pytest.raises(KotyaError, match=message):
            attach(model, config(kind="lora", targets=["attention.query"]), name=name)
    assert torch.equal(outputs(model), before)
    attach(model, config(kind="lora", targets=["attention.key", "attention.query"]), name="b")
    types = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(KotyaError, match=r"attention\.query: 2 adapters stand there; absorb one before"):
        absorb(model)
    assert {name: type(module) for name, module in model.named_modules()} == types


def test_bottlenecks_find_the_layers_of_a_decoder_with_a_window() -> None:
    for kind in ("local-m", "local-p"):
        model = recurrent("luong", "lstm", attention=kind, window=2).eval()
        attach(model, config(kind="houlsby", size=4, targets=["*"]))
        outputs(model).sum().backward()


def test_a_table_under_autocast_begins_at_the_base() -> None:
    model = built("lm")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = outputs(model)
        attach(model, config(kind="lora", rank=2, targets=["embedding"]))
        assert torch.equal(outputs(model), before)


def rows_of_their_own(model: SequenceModel) -> None:
    """Texts of one batch with the adapters `a` and `b`: each as if it were alone with its own."""
    packing = Packing.of([3, 3, 5], torch.device("cpu"))
    ids = torch.randint(PIECES, (11,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone = {}
        for name in "ab":
            with routed(name):
                alone[name] = model.encoder.read(ids, packing)
        texts = {"a": torch.tensor([0, 2]), "b": torch.tensor([1])}
        tokens = {"a": torch.tensor([0, 1, 2, 6, 7, 8, 9, 10]), "b": torch.tensor([3, 4, 5])}
        with routed(Route({3: texts, 11: tokens})):
            mixed = model.encoder.read(ids, packing)
    expected = torch.stack([alone["a"][0], alone["b"][1], alone["a"][2]])
    assert torch.allclose(mixed, expected, atol=1e-5)
    assert not torch.allclose(alone["a"][1], mixed[1], atol=1e-3)


@pytest.mark.parametrize("kinds", [("lora", "dora"), ("lora", "houlsby"), ("houlsby", "parallel")])
def test_rows_of_one_batch_take_each_its_own_adapter(kinds: tuple[str, str]) -> None:
    model = built("bert")
    for name, kind in zip("ab", kinds, strict=True):
        attach(model, config(**ADAPTERS[kind]), name=name)
        shaken(own(model, name), ord(name))
    rows_of_their_own(model)


def test_rows_of_one_batch_take_each_its_own_adapter_of_what_global_queries_read_by() -> None:
    """Of which there are two a text: as many rows as there are neither texts nor tokens."""
    wide = {
        "kind": "any",
        "of": [{"kind": "window", "left": 1, "right": 1}, {"kind": "global", "positions": 2}],
    }
    encoder = BertConfig(layers=2, attention_dropout=0.0, attention=wide, global_projections=True, **BLOCK)
    model = SequenceModel(encoder.build(PIECES), 3).eval()
    for name in "ab":
        attach(model, config(kind="lora", rank=4, targets=["attention.wide.*"]), name=name)
        shaken(own(model, name), ord(name))
    rows_of_their_own(model)
