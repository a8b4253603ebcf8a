"""AdamW (Loshchilov and Hutter 2019) and the schedules of its learning rate."""

import math

import torch
from torch import nn

from kotya.tasks.settings import TrainingConfig


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Weight decay is for matrices; norms and biases go without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=1e-9, fused=True)


def learning_rate(config: TrainingConfig, update: int, updates: int) -> float:
    """Of update 1, 2, …: up in a line over the warm-up, then as the schedule says, to the last of `updates`."""
    warmup = config.warmup if config.warmup >= 1 else max(1, round(config.warmup * updates))
    if update <= warmup:
        return config.learning_rate * update / warmup
    if config.schedule == "inverse-sqrt":
        return config.learning_rate * math.sqrt(warmup / update)
    left = max(0.0, (updates - update) / max(1, updates - warmup))
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1.0 - math.cos(math.pi * left))
    return config.learning_rate * (left if config.schedule == "linear" else 1.0)
