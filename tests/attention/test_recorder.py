"""Weights come out through the recorder, only while it is open, only in its own thread."""

import threading

import torch

from kotya.attention.recorder import record_attention
from kotya.models.transformer import TransformerConfig


def test_every_layer_is_recorded_and_its_weights_sum_to_one() -> None:
    torch.manual_seed(1)
    model = (
        TransformerConfig(size=16, heads=2, feed_forward=16, encoder_layers=1, decoder_layers=2)
        .build(9, 9)
        .eval()
    )
    source, lengths, targets = torch.randint(9, (2, 5)), torch.tensor([5, 3]), torch.randint(9, (2, 4))
    plain = model(source, lengths, targets)
    with record_attention(model) as maps:
        recorded = model(source, lengths, targets)
        thread = threading.Thread(target=lambda: model(source, lengths, targets))
        thread.start()
        thread.join()
    torch.testing.assert_close(plain, recorded)
    assert {name: [tuple(entry.shape) for entry in entries] for name, entries in maps.items()} == {
        "encoder.layers.0.attention": [(2, 2, 5, 5)],
        "decoder.layers.0.attention": [(2, 2, 4, 4)],
        "decoder.layers.0.cross": [(2, 2, 4, 5)],
        "decoder.layers.1.attention": [(2, 2, 4, 4)],
        "decoder.layers.1.cross": [(2, 2, 4, 5)],
    }
    for entries in maps.values():
        torch.testing.assert_close(entries[0].sum(-1), torch.ones(entries[0].shape[:-1]))
    assert not maps["decoder.layers.0.cross"][0][1, :, :, 3:].any()
    assert not maps["decoder.layers.0.attention"][0].triu(1).any()
    model(source, lengths, targets)
    assert len(maps["decoder.layers.0.cross"]) == 1
