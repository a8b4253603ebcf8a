"""Hugging Face's Marian in a plain loop over the shared batches: labels in, its loss with label smoothing out.

.benchmarks/venv/bin/python benchmarks/marian_loop.py --precision bf16 --steps 10
"""

import argparse

import numpy as np
import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel

import corpus
from timing import measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    sizes = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {"layers": 3, "ffn_dim": 1024, "attention_heads": 4}.items()
    }
    config = MarianConfig(
        vocab_size=corpus.SIZE,
        d_model=256,
        activation_function="relu",
        dropout=0.1,
        scale_embedding=True,
        init_std=256**-0.5,
        pad_token_id=corpus.PAD,
        eos_token_id=corpus.END,
        decoder_start_token_id=corpus.BEGIN,
        forced_eos_token_id=None,
        **sizes,
    )
    model = MarianMTModel(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-9)
    criterion = nn.CrossEntropyLoss(ignore_index=corpus.PAD, label_smoothing=0.1)

    def step(source: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> float:
        ids = torch.from_numpy(source)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bf16"):
            logits = model(
                input_ids=ids,
                attention_mask=(ids != corpus.PAD).long(),
                decoder_input_ids=torch.from_numpy(inputs),
                use_cache=False,
            ).logits
            loss = criterion(logits.flatten(0, 1), torch.from_numpy(outputs).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    about = {"warmup": arguments.warmup, "steps": arguments.steps, "precision": arguments.precision}
    measure("Hugging Face Marian", step, **about)


if __name__ == "__main__":
    main()
