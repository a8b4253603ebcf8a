"""The loop a person writes first: `nn.Transformer`, Adam, label-smoothed cross-entropy; the baseline to beat.

python benchmarks/plain_loop.py --precision bf16 --steps 10
"""

import argparse
import math

import numpy as np
import torch
from torch import Tensor, nn

import corpus
from timing import measure


class PlainTransformer(nn.Module):
    """Vaswani et al. 2017 around `nn.Transformer`: d 256, ffn 1024, 4 heads, 3+3 layers, one embedding."""

    def __init__(self, vocabulary: int = corpus.SIZE, size: int = 256, max_length: int = 512):
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(vocabulary, size, padding_idx=corpus.PAD)
        nn.init.normal_(self.embedding.weight, std=size**-0.5)
        self.dropout = nn.Dropout(0.1)
        self.transformer = nn.Transformer(
            d_model=size,
            nhead=4,
            num_encoder_layers=3,
            num_decoder_layers=3,
            dim_feedforward=1024,
            dropout=0.1,
            batch_first=True,
        )
        self.output = nn.Linear(size, vocabulary, bias=False)
        self.output.weight = self.embedding.weight
        position = torch.arange(max_length).unsqueeze(1)
        frequency = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
        table = torch.zeros(max_length, size)
        table[:, 0::2] = torch.sin(position * frequency)
        table[:, 1::2] = torch.cos(position * frequency)
        self.register_buffer("positions", table)

    def embed(self, ids: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids) * math.sqrt(self.size) + self.positions[: ids.shape[1]])

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        source_padding = source == corpus.PAD
        causal = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1], dtype=torch.bool)
        hidden = self.transformer(
            self.embed(source),
            self.embed(inputs),
            tgt_mask=causal,
            tgt_is_causal=True,
            src_key_padding_mask=source_padding,
            tgt_key_padding_mask=inputs == corpus.PAD,
            memory_key_padding_mask=source_padding,
        )
        return self.output(hidden)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    model = PlainTransformer()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-9)
    criterion = nn.CrossEntropyLoss(ignore_index=corpus.PAD, label_smoothing=0.1)

    def step(source: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bf16"):
            logits = model(torch.from_numpy(source), torch.from_numpy(inputs))
            loss = criterion(logits.flatten(0, 1), torch.from_numpy(outputs).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    about = {"warmup": arguments.warmup, "steps": arguments.steps, "precision": arguments.precision}
    measure("plain nn.Transformer", step, **about)


if __name__ == "__main__":
    main()
