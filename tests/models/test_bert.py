"""BERT over packed texts: packed = padded (promise 4), nothing crosses over, the loss of masked positions."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kotya.attention.packed import Packing
from kotya.attention.recorder import record_attention
from kotya.errors import KotyaError
from kotya.models.bert import PRESETS, Bert, BertConfig, MaskedLM
from kotya.models.heads import SequenceModel, TokenModel
from kotya.models.packed_layers import stretched

VOCABULARY = 37
LENGTHS = (6, 11, 1, 6, 9)
SMALL: dict[str, Any] = {"size": 16, "heads": 2, "feed_forward": 32, "layers": 4, "max_length": 24}
MODERN: dict[str, Any] = {
    "norm": "pre",
    "positions": "rotary",
    "activation": "geglu",
    "bias": False,
    "segments": 0,
    "local": 4,
    "pooler": "gelu",
    "pooling": "mean",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "bert": {},
    "modern": MODERN,
    "rms": {"normalization": "rms", "activation": "swiglu", "pooler": "relu", "norm": "pre"},
    "no-pooler": {"pooler": "none", "pooling": "mean"},
}
every = pytest.mark.parametrize("variant", VARIANTS)


def build(variant: str, **options: Any) -> Bert:
    torch.manual_seed(1)
    config = BertConfig(**SMALL | VARIANTS[variant] | {"dropout": 0.0, "attention_dropout": 0.0} | options)
    model = config.build(VOCABULARY)
    with torch.no_grad():  # weights of deviation 0.02 are too small for anything to be seen at these sizes
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def random_texts(model: Bert, *lengths: int) -> tuple[Tensor, Tensor | None]:
    ids = torch.randint(VOCABULARY, (sum(lengths),))
    segments = torch.randint(2, (sum(lengths),)) if model.config.segments else None
    return ids, segments


def alone(model: Bert, ids: Tensor, segments: Tensor | None, lengths: tuple[int, ...]) -> list[Tensor]:
    """What the model says of each text by itself."""
    parts = segments.split(lengths) if segments is not None else [None] * len(lengths)
    return [
        model(text, Packing.of([len(text)]), part)
        for text, part in zip(ids.split(lengths), parts, strict=True)
    ]


@every
def test_4_packed_is_each_text_alone_with_its_gradients(variant: str) -> None:
    model = build(variant).double().train()
    ids, segments = random_texts(model, *LENGTHS)
    packing = Packing.of(LENGTHS)
    upstream = torch.randn(sum(LENGTHS), SMALL["size"], dtype=torch.float64)
    pooled_upstream = torch.randn(len(LENGTHS), SMALL["size"], dtype=torch.float64)
    hidden = model(ids, packing, segments)
    pooled = model.pooled(hidden, packing)
    every_alone = alone(model, ids, segments, LENGTHS)
    pooled_alone = torch.cat([model.pooled(one, Packing.of([len(one)])) for one in every_alone])
    torch.testing.assert_close(hidden, torch.cat(every_alone))
    torch.testing.assert_close(pooled, pooled_alone)
    gradients = [
        torch.autograd.grad((h * upstream).sum() + (p * pooled_upstream).sum(), list(model.parameters()))
        for h, p in ((hidden, pooled), (torch.cat(every_alone), pooled_alone))
    ]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


@every
@torch.no_grad()
def test_1_another_neighbour_changes_nothing(variant: str) -> None:
    model = build(variant).eval()
    ids, segments = random_texts(model, *LENGTHS)
    before = model(ids, Packing.of(LENGTHS), segments).split(LENGTHS)
    other = ids.clone()
    other.split(LENGTHS)[1].add_(1).remainder_(VOCABULARY)
    after = model(other, Packing.of(LENGTHS), segments).split(LENGTHS)
    for i, (mine, theirs) in enumerate(zip(before, after, strict=True)):
        if i == 1:
            assert not torch.allclose(mine, theirs, atol=1e-2)
        else:
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


@every
@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("local", [None, 4])
def test_pooled_vectors_read_alone_are_those_of_all_tokens_with_their_gradients(
    variant: str, pooling: str, local: int | None
) -> None:
    """The last layer works for the first tokens alone: rotary, with a window (layer 1 of 2 is a local one), or not."""
    model = build(variant, pooling=pooling, local=local, layers=2, max_length=160).double().train()
    lengths = (7, 3, 150, 1, 8)
    ids, segments = random_texts(model, *lengths)
    packing = Packing.of(lengths)
    upstream = torch.randn(len(lengths), SMALL["size"], dtype=torch.float64)
    results = []
    for pooled in (
        model.read(ids, packing, segments),
        model.pooled(model(ids, packing, segments), packing),
    ):
        gradients = torch.autograd.grad((pooled * upstream).sum(), list(model.parameters()))
        results.append([pooled, *gradients])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@torch.no_grad()
def test_the_last_layer_is_recorded_whole_though_its_first_tokens_alone_are_wanted() -> None:
    model = build("bert").eval()
    ids, segments = random_texts(model, *LENGTHS)
    packing = Packing.of(LENGTHS)
    plain = model.read(ids, packing, segments)
    with record_attention(model) as maps:
        recorded = model.read(ids, packing, segments)
    torch.testing.assert_close(recorded, plain)
    (weights,) = maps["layers.3.attention"]
    assert weights.shape == (len(LENGTHS), SMALL["heads"], max(LENGTHS), max(LENGTHS))


@torch.no_grad()
def test_a_local_layer_reads_its_window_and_a_global_one_everything() -> None:
    """Layers 0 and 3 are global, 1 and 2 see 2 tokens to either side."""
    model = build("modern").eval()
    ids, _ = random_texts(model, 24)
    packing = Packing.of([24])
    with record_attention(model) as maps:
        model(ids, packing)
    distance = (torch.arange(24)[:, None] - torch.arange(24)).abs()
    for depth in range(4):
        (weights,) = maps[f"layers.{depth}.attention"]
        seen = weights[0] > 0
        assert bool(seen.all()) if depth in (0, 3) else torch.equal(seen, (distance <= 2).expand_as(seen))


@torch.no_grad()
def test_the_three_embeddings_are_summed_and_normed() -> None:
    model = build("bert").eval()
    ids, segments = random_texts(model, 5, 3)
    assert segments is not None
    first, *_ = layers = model.every_layer(ids, Packing.of([5, 3]), segments)
    part = model.embedding
    assert part.segments is not None
    assert part.positions is not None
    positions = part.positions.weight[[0, 1, 2, 3, 4, 0, 1, 2]]
    total = (part.tokens[ids] + part.segments[segments] + positions).double()
    mean, variance = total.mean(-1, keepdim=True), total.var(-1, unbiased=False, keepdim=True)
    normed = (total - mean) / (variance + 1e-12).sqrt() * part.norm.weight + part.norm.bias
    torch.testing.assert_close(first.double(), normed, atol=1e-5, rtol=1e-5)
    assert len(layers) == 1 + SMALL["layers"]
    torch.testing.assert_close(layers[-1], model(ids, Packing.of([5, 3]), segments))


def masked_lm(variant: str, **options: Any) -> MaskedLM:
    return MaskedLM(build(variant, **options), next_sentence=True)


@every
def test_the_loss_is_that_of_masked_positions_alone(variant: str) -> None:
    model = masked_lm(variant).double()
    ids, segments = random_texts(model.encoder, *LENGTHS)
    places, targets = torch.tensor([0, 7, 8, 20]), torch.tensor([3, 3, 36, 0])
    hidden = model(ids, Packing.of(LENGTHS), segments)
    loss, likelihood = model.masked_loss(hidden[places], targets)
    plain = nn.functional.cross_entropy(model.logits(hidden)[places], targets, reduction="sum")
    torch.testing.assert_close(loss.double(), plain, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(likelihood.double(), plain.detach(), atol=1e-4, rtol=1e-5)
    names = [
        name for name, _ in model.named_parameters() if "next_sentence" not in name and "pooler" not in name
    ]
    parameters = [model.get_parameter(name) for name in names]
    gradients = zip(
        torch.autograd.grad(loss, parameters, retain_graph=True),
        torch.autograd.grad(plain, parameters),
        strict=True,
    )
    for mine, theirs in gradients:
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_next_sentence_reads_the_pooled_vectors() -> None:
    model = masked_lm("bert").eval()
    ids, segments = random_texts(model.encoder, *LENGTHS)
    packing = Packing.of(LENGTHS)
    hidden = model(ids, packing, segments)
    first = hidden[[0, 6, 17, 18, 24]]
    assert model.encoder.pooler is not None
    assert model.next_sentence is not None
    dense, last = model.encoder.pooler.dense, model.next_sentence
    expected = (first @ dense.weight.T + dense.bias).tanh() @ last.weight.T + last.bias
    torch.testing.assert_close(model.next_sentence_logits(hidden, packing), expected)


@every
@torch.no_grad()
def test_heads_say_the_same_of_a_text_in_any_company(variant: str) -> None:
    encoder = build(variant)
    ids, segments = random_texts(encoder, *LENGTHS)
    for model, wholes in ((SequenceModel(encoder, 3).eval(), True), (TokenModel(encoder, 5).eval(), False)):
        together = model(ids, Packing.of(LENGTHS), segments)
        assert together.shape == ((len(LENGTHS), 3) if wholes else (sum(LENGTHS), 5))
        parts = segments.split(LENGTHS) if segments is not None else [None] * len(LENGTHS)
        singly = [
            model(text, Packing.of([len(text)]), part)
            for text, part in zip(ids.split(LENGTHS), parts, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(singly), atol=1e-5, rtol=1e-5)


def test_projections_that_begin_as_copies_are_copies() -> None:
    """Two names of one tensor would be trained as one, and could not be written to a file."""
    known = BertConfig(**SMALL, attention="longformer").build(VOCABULARY).state_dict()
    wanted = (
        BertConfig(**SMALL, attention="longformer", global_projections=True).build(VOCABULARY).state_dict()
    )
    fitted = stretched(known, wanted)
    assert set(fitted) == set(wanted)
    places = [one.untyped_storage().data_ptr() for one in fitted.values()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("kind", [SequenceModel, TokenModel])
def test_what_a_head_reads_is_dropped_out_in_training_alone(
    kind: type[SequenceModel] | type[TokenModel],
) -> None:
    model = kind(BertConfig(**SMALL | {"dropout": 0.5}).build(VOCABULARY), 3)
    x = torch.randn(20, SMALL["size"])
    torch.testing.assert_close(model.eval().answer(x), x @ model.head.weight.T + model.head.bias)
    assert not torch.allclose(model.train().answer(x), model.answer(x))


@pytest.mark.parametrize(
    ("name", "millions"),
    # Turc et al. 2019, table 1, and Devlin et al. 2019, section 3
    [("bert-tiny", 4.4), ("bert-mini", 11.3), ("bert-small", 29.1), ("bert-base", 110), ("bert-large", 340)],
)
def test_presets_are_of_the_published_size(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = PRESETS[name].build(30522)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize(
    ("changed", "std"), [({}, 0.02), ({"initial_std": 0.09}, 0.09)]
)  # 0.02 is the paper's
def test_fresh_weights_are_as_wide_as_asked(changed: dict[str, float], std: float) -> None:
    config = PRESETS["bert-tiny"].model_copy(update=changed)
    for name, parameter in MaskedLM(config.build(2000), next_sentence=True).named_parameters():
        if parameter.ndim == 2:
            assert float(parameter.detach().std()) == pytest.approx(std, rel=0.15), name
        else:
            assert set(parameter.unique().tolist()) <= {0.0, 1.0}, name


def test_a_fresh_model_finds_every_piece_as_likely() -> None:
    model = MaskedLM(PRESETS["bert-tiny"].build(2000), next_sentence=True)
    first, _ = model.masked_loss(torch.randn(50, 128), torch.randint(2000, (50,)))
    assert first.item() / 50 == pytest.approx(math.log(2000), rel=0.05)


def test_a_text_longer_than_the_model_reads_is_the_persons_mistake() -> None:
    model = build("bert")
    with pytest.raises(KotyaError, match="25 tokens; the model reads 24"):
        model(torch.zeros(25, dtype=torch.long), Packing.of([25]))
    modern = build("modern")
    assert modern(torch.zeros(60, dtype=torch.long), Packing.of([60])).shape == (60, 16)


def test_segments_without_segment_embeddings_are_a_mistake() -> None:
    with pytest.raises(KotyaError, match="no segments"):
        build("modern")(torch.zeros(3, dtype=torch.long), Packing.of([3]), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    "options", [{"heads": 3}, {"local": 5}, {"size": 18, "heads": 6, "positions": "rotary"}]
)
def test_settings_that_do_not_fit(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"heads|local|size"):
        BertConfig(**SMALL | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "flex", "attention": "linear"}, "no layer attends by a pattern"),
        ({"kernel": "dense", "attention": "linformer"}, "no layer attends by a pattern"),
        ({"kernel": "blocks"}, "no layer attends by a pattern"),
        ({"kernel": "blocks", "local": 8, "layers": 1}, "no layer attends by a pattern"),
        ({"kernel": "blocks", "attention": {"kind": "heads", "of": ["window", "full"]}}, "none to leave out"),
        ({"attention": {"kind": "global", "positions": [0, 64]}, "max_length": 64}, "position 64 is to be"),
        ({"attention": {"kind": "global", "positions": 65}, "max_length": 64}, "position 64 is to be"),
        ({"attention": {"kind": "global", "positions": (1 << 31) - 1}}, "position 2147483646 is to be"),
        ({"global_projections": True}, "none has global positions"),
        ({"global_projections": True, "attention": "linear"}, "none has global positions"),
        (
            {"attention": {"kind": "heads", "of": ["full", "window", "global"]}},
            "cannot share 3 patterns",
        ),
    ],
)
def test_what_no_layer_can_use_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BertConfig(**SMALL | options)


@pytest.mark.parametrize(
    ("options", "kernels"),
    [
        ({"local": 8}, [None, "blocks", "blocks", None]),
        ({"attention": ["full", "window", "linear", "longformer"]}, [None, "blocks", None, "blocks"]),
        ({"attention": "block_sparse"}, ["blocks"] * 4),
    ],
)
def test_a_kernel_is_of_the_layers_that_have_a_pattern(
    options: dict[str, Any], kernels: list[str | None]
) -> None:
    model = BertConfig(**SMALL | {"layers": 4, "kernel": "blocks"} | options).build(VOCABULARY)
    patterns = [getattr(layer.attention.form, "patterns", None) for layer in model.layers]  # type: ignore[union-attr]
    assert [one and one.kernel for one in patterns] == kernels


def test_a_kernel_that_could_not_read_a_long_text_reads_no_short_one() -> None:
    model = BertConfig(**SMALL | {"attention": "block_sparse", "kernel": "flex"}).build(VOCABULARY)
    with pytest.raises(KotyaError, match="the kernel 'flex' needs a GPU"):
        model(torch.tensor([3, 4, 5]), Packing.of([3]))
