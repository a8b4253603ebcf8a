"""The Transformer against its formulas and PyTorch's own, and promises 1 and 2 of the design."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kotya.attention.multihead import MultiHeadAttention
from kotya.attention.positions import sinusoidal
from kotya.models.seq2seq import Seq2Seq
from kotya.models.transformer import PRESETS, TransformerConfig
from kotya.models.transformer_block import FeedForward, Residual
from kotya.models.transformer_decoder import TransformerDecoder
from kotya.models.transformer_encoder import TransformerEncoder

VOCABULARY = 23
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "pre-norm": {"norm": "pre", "activation": "gelu"},
    "modern": {
        "norm": "pre",
        "normalization": "rms",
        "activation": "swiglu",
        "bias": False,
        "positions": "rotary",
    },
    "learned": {"positions": "learned", "share": "output", "output_bias": True, "activation": "swish"},
    "halves": {"position_layout": "halves", "share": "none", "scale_embedding": False},
}


def build(**options: Any) -> Seq2Seq:
    torch.manual_seed(1)
    small = {"size": 16, "heads": 2, "feed_forward": 32, "encoder_layers": 2, "decoder_layers": 2}
    return TransformerConfig(**small | options).build(VOCABULARY, VOCABULARY).eval()


def random_lines(*lengths: int, seed: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCABULARY, (length,), generator=generator) for length in lengths]


def batch(lines: list[Tensor]) -> tuple[Tensor, Tensor]:
    return nn.utils.rnn.pad_sequence(lines, batch_first=True, padding_value=3), torch.tensor(
        [len(x) for x in lines]
    )


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_line_does_not_depend_on_the_lines_beside_it(variant: str) -> None:
    model = build(**VARIANTS[variant])
    sources, targets = random_lines(5, 11, 1), random_lines(4, 2, 9, seed=3)
    together = model.decoder.output(model(*batch(sources), batch(targets)[0]))
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        alone = model.decoder.output(model(*batch([source]), target[None]))[0]
        torch.testing.assert_close(together[row, : len(target)], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_cached_equals_uncached(variant: str) -> None:
    model = build(**VARIANTS[variant])
    source, lengths = batch(random_lines(5, 11, 1))
    targets = batch(random_lines(7, 7, 7, seed=3))[0]
    whole = model.decoder.output(model(source, lengths, targets))
    state = model.decoder.start(model.encode(source, lengths))
    first, state = model.decoder.extend(targets[:, :3], state, all_positions=True)
    torch.testing.assert_close(first, whole[:, :3], atol=1e-5, rtol=1e-5)
    for t in range(3, 7):
        logits, state = model.decoder.extend(targets[:, t : t + 1], state)
        torch.testing.assert_close(logits, whole[:, t], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_rows_reorder_repeat_leave_and_join(variant: str) -> None:
    """A batch with rows of every age and many rows a line goes on exactly as whole sequences say."""
    model = build(**VARIANTS[variant])
    sources, targets = random_lines(5, 11, 2), random_lines(40, 40, 40, seed=3)
    whole = [
        model.decoder.output(model(*batch([s]), t[None]))[0] for s, t in zip(sources, targets, strict=True)
    ]
    state = model.decoder.start(model.encode(*batch(sources[:2])))
    _, state = model.decoder.extend(torch.stack(targets[:2])[:, :4], state)
    state = state.select(torch.tensor([1, 1, 0]))
    state = state.join(model.decoder.start(model.encode(*batch(sources[2:]))))
    rows, ages = [1, 1, 0, 2], [4, 4, 4, 0]
    selections = {2: [3, 0], 8: [0, 1, 0, 0, 1], 16: [2]}
    for step in range(25):
        tokens = torch.stack([targets[line][age] for line, age in zip(rows, ages, strict=True)])[:, None]
        logits, state = model.decoder.extend(tokens, state)
        expected = torch.stack([whole[line][age] for line, age in zip(rows, ages, strict=True)])
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        ages = [age + 1 for age in ages]
        assert state.positions.tolist() == ages
        if step in selections:
            kept = selections[step]
            state = state.select(torch.tensor(kept))
            rows, ages = [rows[i] for i in kept], [ages[i] for i in kept]


Vectors = list[Tensor]


def embedded(weight: Tensor, ids: list[int]) -> Vectors:
    """√d E[w_t] + PE(t),  PE(t, 2i) = sin(t / 10000^(2i/d)),  PE(t, 2i+1) = cos(t / 10000^(2i/d))."""
    size = weight.shape[1]
    angles = [[t / 10000 ** (2 * (j // 2) / size) for j in range(size)] for t in range(len(ids))]
    waves = [[math.cos(a) if j % 2 else math.sin(a) for j, a in enumerate(row)] for row in angles]
    return [
        math.sqrt(size) * weight[w] + torch.tensor(wave).double() for w, wave in zip(ids, waves, strict=True)
    ]


def multi_head(attention: MultiHeadAttention, query: Tensor, read: Vectors) -> Tensor:
    """W_o [head_1; …; head_h],  head_i = Σ_k a_k v_k,  a = softmax(qᵀk / √d_head), a head's own q, k and v."""
    found = []
    for rows in torch.arange(attention.query.out_features).view(attention.heads, -1):
        q, k, v = (
            [layer.weight[rows] @ x + layer.bias[rows] for x in xs]
            for layer, xs in ((attention.query, [query]), (attention.key, read), (attention.value, read))
        )
        e = [torch.exp(q[0] @ key / math.sqrt(len(rows))) for key in k]
        found.append(
            sum((weight / sum(e) * value for weight, value in zip(e, v, strict=True)), torch.zeros(1))
        )
    return attention.output.weight @ torch.cat(found) + attention.output.bias


def feed_forward(layer: FeedForward, x: Tensor) -> Tensor:
    """W_2 max(0, W_1 x + b_1) + b_2."""
    inner = layer.inner.weight @ x + layer.inner.bias
    return layer.outer.weight @ torch.where(inner > 0, inner, 0.0) + layer.outer.bias


def layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """γ (x - μ) / √(σ² + ε) + β."""
    mean = sum(x) / len(x)
    variance = sum((x - mean) ** 2) / len(x)
    return norm.get_parameter("weight") * (x - mean) / torch.sqrt(variance + 1e-5) + norm.get_parameter(
        "bias"
    )


def before(residual: Residual, xs: Vectors) -> Vectors:
    """What a sublayer f reads: x in the paper, LayerNorm(x) in later models."""
    return [layer_norm(residual.norm, x) for x in xs] if residual.pre else xs


def after(residual: Residual, xs: Vectors, outputs: Vectors) -> Vectors:
    """LayerNorm(x + f(x)) in the paper, x + f(LayerNorm(x)) in later models."""
    sums = [x + y for x, y in zip(xs, outputs, strict=True)]
    return sums if residual.pre else [layer_norm(residual.norm, x) for x in sums]


@pytest.mark.parametrize("norm", ["post", "pre"])
@torch.no_grad()
def test_the_whole_model_is_the_paper_s_formulas(norm: str) -> None:
    """Vaswani et al. 2017, section 3, a vector at a time in float64; every row by itself, padded beside others."""
    model = build(norm=norm, share="output").double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.3)  # no bias 0 and no norm 1
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, TransformerEncoder)
    assert isinstance(decoder, TransformerDecoder)
    sources, targets = random_lines(5, 3), random_lines(4, 4, seed=3)
    hidden = model(*batch(sources), torch.stack(targets))
    for row in range(2):
        x = embedded(encoder.embedding.weight, sources[row].tolist())
        for layer in encoder.layers:
            read = before(layer.attention_residual, x)
            x = after(layer.attention_residual, x, [multi_head(layer.attention, one, read) for one in read])
            read = before(layer.feed_forward_residual, x)
            x = after(layer.feed_forward_residual, x, [feed_forward(layer.feed_forward, one) for one in read])
        memory = [layer_norm(encoder.norm, one) for one in x] if norm == "pre" else x
        y = embedded(decoder.embedding.weight, targets[row].tolist())
        for layer in decoder.layers:
            read = before(layer.attention_residual, y)
            past = [multi_head(layer.attention, one, read[: t + 1]) for t, one in enumerate(read)]
            y = after(layer.attention_residual, y, past)
            read = before(layer.cross_residual, y)
            y = after(layer.cross_residual, y, [multi_head(layer.cross, one, memory) for one in read])
            read = before(layer.feed_forward_residual, y)
            y = after(layer.feed_forward_residual, y, [feed_forward(layer.feed_forward, one) for one in read])
        expected = [layer_norm(decoder.norm, one) for one in y] if norm == "pre" else y
        torch.testing.assert_close(hidden[row], torch.stack(expected), atol=1e-6, rtol=1e-6)


def give_attention(attention: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    projections = (attention.query, attention.key, attention.value)
    theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
    theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
    theirs.out_proj.load_state_dict(attention.output.state_dict())


@torch.no_grad()
def pytorch_s_own(model: Seq2Seq) -> nn.Transformer:
    """`nn.Transformer` with the weights of ours, of two layers a side; no embeddings, no output."""
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, TransformerEncoder)
    assert isinstance(decoder, TransformerDecoder)
    config = decoder.config
    options: dict[str, Any] = {
        "dropout": 0.0,
        "batch_first": True,
        "norm_first": config.norm == "pre",
        "activation": config.activation,
    }
    sizes = (config.size, config.heads, config.feed_forward)
    last = [nn.LayerNorm(config.size) if config.norm == "pre" else None for _ in range(2)]
    theirs = nn.Transformer(
        config.size,
        config.heads,
        batch_first=True,
        custom_encoder=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(*sizes, **options), 2, last[0], enable_nested_tensor=False
        ),
        custom_decoder=nn.TransformerDecoder(nn.TransformerDecoderLayer(*sizes, **options), 2, last[1]),
    ).double()
    for mine, stack in ((encoder, theirs.encoder), (decoder, theirs.decoder)):
        for ours, other in zip(mine.layers, stack.layers, strict=True):
            give_attention(ours.attention, other.self_attn)
            norms = [ours.attention_residual.norm, ours.feed_forward_residual.norm]
            if mine is decoder:
                give_attention(ours.cross, other.multihead_attn)
                norms.insert(1, ours.cross_residual.norm)
            for number, norm in enumerate(norms, start=1):
                getattr(other, f"norm{number}").load_state_dict(norm.state_dict())
            other.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
            other.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
        if stack.norm is not None:
            stack.norm.load_state_dict(mine.norm.state_dict())
    return theirs


@pytest.mark.parametrize(("norm", "activation"), [("post", "relu"), ("pre", "gelu")])
def test_the_whole_model_computes_what_pytorch_s_own_does(norm: str, activation: str) -> None:
    """In float64: the same loss, and the same gradients of every weight, with padding on both sides."""
    model = build(norm=norm, activation=activation, share="all", dropout=0.0).double().train()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.3)  # no bias 0 and no norm 1
    theirs, embedding = pytorch_s_own(model), model.encoder.embedding.weight.detach().clone().requires_grad_()
    source, lengths = batch(random_lines(6, 9, 2))
    targets, target_lengths = batch(random_lines(5, 3, 8, seed=3))
    inputs, real = targets[:, :-1], torch.arange(7) < target_lengths[:, None] - 1

    loss, _ = model.loss(model(source, lengths, inputs)[real], targets[:, 1:][real])
    loss.backward()

    padding, causal = torch.arange(9) >= lengths[:, None], torch.ones(7, 7, dtype=torch.bool).triu(1)
    x, y = (embedding[ids] * 4.0 + sinusoidal(ids.shape[1], 16) for ids in (source, inputs))
    hidden = theirs(x, y, tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding)
    expected = F.cross_entropy((hidden @ embedding.T)[real], targets[:, 1:][real], reduction="sum")
    expected.backward()

    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)  # summed in float32
    torch.testing.assert_close(model.encoder.embedding.weight.grad, embedding.grad)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        moved = parameter.grad.abs().max() > 1e-3
        assert moved or name.endswith("key.bias")  # which adds the same to all scores of a query
        parameter.data = parameter.grad
    gradients = dict(pytorch_s_own(model).named_parameters())  # the same places, filled with our gradients
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(
            gradients[name], parameter.grad, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_sharing_is_one_matrix() -> None:
    every = build(share="all")
    assert every.encoder.embedding.weight is every.decoder.embedding.weight is every.decoder.output_weight
    output = build(share="output")
    assert output.encoder.embedding.weight is not output.decoder.embedding.weight
    assert output.decoder.embedding.weight is output.decoder.output_weight
    none = build(share="none")
    assert none.decoder.embedding.weight is not none.decoder.output_weight


def test_base_has_the_size_of_the_paper() -> None:
    """Table 3: 65 million parameters for base with a joint vocabulary of 37,000."""
    with torch.device("meta"):
        model = PRESETS["transformer-base"].build(37000, 37000)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(65e6, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 10, "heads": 4}, "multiple"), ({"size": 6, "heads": 2, "positions": "rotary"}, "even")],
)
def test_sizes_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_attention": "linformer"}, "linformer has no causal form"),
        ({"decoder_attention": "block_sparse"}, "block_sparse has no causal form"),
        ({"cross_attention": "block_sparse"}, "of one text that reads itself"),
        ({"cross_attention": ["window"]}, "search does not know how long the target will be"),
        ({"cross_attention": {"kind": "any", "of": ["global", "window"]}}, "a window across two texts"),
        ({"cross_attention": {"kind": "heads", "of": ["full", "bigbird"]}}, "a window across two texts"),
        (
            {
                "positions": "learned",
                "max_length": 64,
                "encoder_attention": {"kind": "global", "positions": [64]},
            },
            "position 64 is to be global, and texts end before 64",
        ),
        ({"kernel": "blocks", "encoder_attention": "linear"}, "no layer attends by a pattern"),
        (
            {"heads": 4, "cross_attention": {"kind": "heads", "of": ["full", "global", "random"]}},
            "4 heads cannot share 3 patterns",
        ),
    ],
)
def test_attention_that_a_decoder_cannot_have_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**options)


@pytest.mark.parametrize("attention", ["full", "global", "random", "linear", "linformer", ["global", "full"]])
def test_attention_that_does_not_ask_how_long_the_target_is_reads_the_source(attention: Any) -> None:
    TransformerConfig(encoder_layers=2, decoder_layers=2, cross_attention=attention)


def test_a_kernel_is_of_the_part_that_has_a_pattern() -> None:
    window = {"kind": "window", "left": 2, "right": 2}
    model, blocks = (build(encoder_attention=window, kernel=kernel) for kernel in ("dense", "blocks"))
    sources, targets = batch(random_lines(7, 4)), batch(random_lines(5, 3, seed=3))[0]
    torch.testing.assert_close(blocks(*sources, targets), model(*sources, targets), atol=1e-5, rtol=1e-5)
