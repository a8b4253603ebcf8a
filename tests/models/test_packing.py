"""A packed model computes what the model computed."""

import torch
from torch import nn

from kotya.models.packing import PackedLinear, pack
from kotya.models.transformer import TransformerConfig


@torch.inference_mode()
def test_every_matrix_is_packed_and_the_logits_stay() -> None:
    torch.manual_seed(1)
    config = TransformerConfig(size=32, heads=2, feed_forward=48, encoder_layers=1, decoder_layers=2)
    model = config.build(40, 40).eval()
    source, lengths, targets = torch.randint(40, (3, 5)), torch.tensor([5, 3, 4]), torch.randint(40, (3, 6))
    plain = model.decoder.output(model(source, lengths, targets))
    packed = pack(model)
    assert isinstance(packed.decoder.projection, PackedLinear)
    assert not [module for module in packed.modules() if isinstance(module, nn.Linear)]
    torch.testing.assert_close(
        packed.decoder.output(packed(source, lengths, targets)), plain, atol=1e-5, rtol=1e-5
    )
