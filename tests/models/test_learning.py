"""Promise 8: a tiny model learns to copy and to reverse, and says so in greedy decoding."""

import pytest
import torch
from torch import Tensor

from kotya.models.seq2seq import Seq2Seq
from kotya.models.transformer import TransformerConfig

PAD, BEGIN, END, FIRST, VOCABULARY, LONGEST = 0, 1, 2, 3, 11, 6


def examples(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random rows, their lengths with end, and the same rows reversed: [rows, LONGEST + 1], end last, then padding."""
    lengths = torch.randint(1, LONGEST + 1, (count,), generator=generator)
    symbols = torch.randint(FIRST, VOCABULARY, (count, LONGEST), generator=generator)
    place = torch.arange(LONGEST + 1)
    rows = torch.cat([symbols, torch.full((count, 1), PAD)], dim=1)
    backwards = rows.gather(1, (lengths[:, None] - 1 - place).clamp(min=0))
    both = [torch.where(place < lengths[:, None], x, PAD) for x in (rows, backwards)]
    both = [torch.where(place == lengths[:, None], END, x) for x in both]
    return both[0], lengths + 1, both[1]


def train(model: Seq2Seq, *, reverse: bool, updates: int) -> None:
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(
            1.0, (update + 1) / 50, (updates - update) / (updates / 2)
        )
        rows, lengths, backwards = examples(64, generator)
        outputs = backwards if reverse else rows
        inputs = torch.cat([torch.full((64, 1), BEGIN), outputs[:, :-1]], dim=1)
        real = outputs != PAD
        loss, _ = model.loss(model(rows, lengths, inputs)[real], outputs[real])
        (loss / real.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def greedy(model: Seq2Seq, rows: Tensor, lengths: Tensor) -> Tensor:
    state = model.decoder.start(model.encode(rows, lengths))
    tokens, outputs = torch.full((len(rows), 1), BEGIN), []
    for _ in range(LONGEST + 1):
        logits, state = model.decoder.extend(tokens, state)
        tokens = logits.argmax(-1, keepdim=True)
        outputs.append(tokens)
    said = torch.cat(outputs, dim=1)
    ended = (said == END).cumsum(1) - (said == END).long() > 0
    return said.masked_fill(ended, PAD)


@pytest.mark.parametrize("task", ["copy", "reverse"])
def test_a_tiny_transformer_learns(task: str) -> None:
    torch.manual_seed(1)
    config = TransformerConfig(
        size=32, heads=4, feed_forward=64, encoder_layers=2, decoder_layers=2, dropout=0.0
    )
    model = config.build(VOCABULARY, VOCABULARY)
    train(model, reverse=task == "reverse", updates=300)
    rows, lengths, backwards = examples(200, torch.Generator().manual_seed(2))
    right = (greedy(model.eval(), rows, lengths) == (backwards if task == "reverse" else rows)).all(1)
    assert right.float().mean().item() > 0.95
