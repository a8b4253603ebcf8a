"""The Transformer against PyTorch's own, and promises 1 and 2 of the design."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kotya.attention.multihead import MultiHeadAttention
from kotya.attention.positions import sinusoidal
from kotya.models.seq2seq import Seq2Seq
from kotya.models.transformer import PRESETS, TransformerConfig
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
    ],
)
def test_attention_that_a_decoder_cannot_have_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**options)


@pytest.mark.parametrize("attention", ["full", "global", "random", "linear", "linformer", ["global", "full"]])
def test_attention_that_does_not_ask_how_long_the_target_is_reads_the_source(attention: Any) -> None:
    TransformerConfig(encoder_layers=2, decoder_layers=2, cross_attention=attention)
