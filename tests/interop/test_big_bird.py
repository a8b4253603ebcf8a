"""BigBird's block-sparse attention, in and out: what `transformers` computes in use, first block counted and all."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from kotya.attention.block_sparse import BlockSparse
from kotya.attention.packed import Packing
from kotya.errors import KotyaError
from kotya.interop.big_bird import BIG_BIRD
from kotya.interop.family import ours_of
from kotya.models.bert import Bert, BertConfig
from tiny_encoders import LONGEST, SETTINGS, VOCABULARY, batch, make, outputs

KERNELS = ("dense", "blocks")


def imported(theirs: transformers.PreTrainedModel, kernel: str) -> Bert:
    settings = BIG_BIRD.settings(theirs.config.to_dict(), "encoder", Path("config.json"))
    settings = settings.model_copy(update={"kernel": kernel})
    encoder = settings.build(VOCABULARY).eval()
    wanted = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    found, left = ours_of(BIG_BIRD, theirs.state_dict(), wanted, settings, "encoder", 0, Path("m"))
    assert not left
    encoder.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in found.items()})
    return encoder


def by_itself(theirs: transformers.PreTrainedModel, *text: Tensor) -> Any:
    """Short texts turn their model to full attention for good, so it is turned back before each."""
    theirs.base_model.set_attention_type(theirs.config.attention_type)
    return outputs(theirs, *(x[None] for x in text))


def close(ours: Tensor, theirs: Tensor) -> None:
    assert float(theirs.std()) > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("size", "random"), [(4, 1), (4, 3), (3, 2), (8, 1)])
@torch.no_grad()
def test_9_vectors_are_theirs_of_each_text_by_itself(size: int, random: int, kernel: str) -> None:
    """Of whole blocks and of parts, in pairs, and up to the length at which theirs becomes sparse."""
    sparse = (5 + 2 * random) * size + 1
    lengths = (LONGEST, sparse, sparse - 1, 7, LONGEST - 4 * size % 10, 3 * size)
    theirs = make("big_bird", "Model", block_size=size, num_random_blocks=random)
    ids, real, segments = batch("big_bird", lengths, pairs=True)
    encoder = imported(theirs, kernel)
    kept = real.bool()
    packing = Packing.of(lengths)
    hidden = encoder(ids[kept], packing, segments[kept])
    pooled = encoder.pooled(hidden, packing)
    for row, (mine, length) in enumerate(zip(hidden.split(lengths), lengths, strict=True)):
        expected = by_itself(theirs, *(x[row, :length] for x in (ids, real, segments)))
        close(mine, expected.last_hidden_state[0])
        torch.testing.assert_close(pooled[row], expected.pooler_output[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_9_padded_texts_with_one_last_block_are_theirs() -> None:
    theirs = make("big_bird", "Model")
    ids, real, segments = batch("big_bird", (85, 88, 86), pairs=False)
    encoder = imported(theirs, "auto")
    hidden = encoder(ids[real.bool()], Packing.of((85, 88, 86)), segments[real.bool()])
    close(hidden, outputs(theirs, ids, real, segments).last_hidden_state[real.bool()])


@torch.no_grad()
def test_full_attention_is_plain() -> None:
    theirs = make("big_bird", "Model", attention_type="original_full")
    encoder = imported(theirs, "auto")
    assert all(layer.attention.form is None for layer in encoder.layers)  # type: ignore[union-attr]
    ids, real, segments = batch("big_bird", (70, 31), pairs=True)
    hidden = encoder(ids[real.bool()], Packing.of((70, 31)), segments[real.bool()])
    close(hidden, outputs(theirs, ids, real, segments).last_hidden_state[real.bool()])


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_first_block_counts_as_often_as_there_are_random_ones(kernel: str) -> None:
    """The formula in float64, with its gradients."""
    size, random, length = 3, 2, 41
    form = BlockSparse(size, random, 0, kernel)  # type: ignore[arg-type]
    torch.manual_seed(1)
    inputs = [torch.randn(length, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    output = form.packed(*inputs, Packing.of([length]), causal=False, dropout=0.0)
    block, last = torch.arange(length) // size, (length - 1) // size
    at_end = (block == 0) | (block == last)
    seen = ((block[:, None] - block).abs() <= 1) | at_end[:, None] | at_end
    counts = seen * torch.where(~at_end[:, None] & (block == 0), 1 + random, 1)
    query, key, value = inputs
    products = counts * (torch.einsum("qhd,khd->hqk", query, key) / 2).exp()
    expected = torch.einsum("hqk,khd->qhd", products / products.sum(-1, keepdim=True), value)
    torch.testing.assert_close(output, expected)
    gradient = torch.randn_like(output)
    for mine, other in zip(
        torch.autograd.grad(output, inputs, gradient),
        torch.autograd.grad(expected, inputs, gradient),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_type": "sparse"}, "attention_type is 'sparse'"),
        ({"use_bias": False}, "use_bias"),
        ({"rescale_embeddings": True}, "rescale_embeddings"),
        ({"hidden_act": "silu"}, "hidden_act is 'silu'"),
    ],
)
def test_what_is_not_read_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KotyaError, match=message):
        BIG_BIRD.settings(SETTINGS["big_bird"] | changes, "classification", Path("there/config.json"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": "bigbird"},
        {"attention": ["block_sparse", "full"]},
        {"pooler": "relu"},
        {"attention": {"kind": "block_sparse", "random": 0}},
        {"max_length": 500},  # no whole number of blocks
    ],
)
def test_an_encoder_that_is_no_bigbird(options: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"activation": "gelu_tanh", "pooler": "gelu_tanh", "attention": "block_sparse"}
    assert BIG_BIRD.lacks(BertConfig(**usual), "classification") is None
    changed = usual | options if options else {}
    assert BIG_BIRD.lacks(BertConfig(**changed), "classification") is not None


def test_block_sparse_attention_is_of_whole_texts() -> None:
    form = BlockSparse(4, 1, 0, "auto")
    text = torch.randn(1, 9, 2, 4)
    for call in (
        lambda: form.rows(text, text, text, None, causal=True),
        lambda: form.rows(text, text, text, None, cross=True),
        lambda: form.new_cache(1, 2, 4, text),
        lambda: form.source(text, text, torch.tensor([9])),
    ):
        with pytest.raises(KotyaError, match="of a whole text that reads itself"):
            call()
