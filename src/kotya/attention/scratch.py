"""Memory that is used again and again: what is allocated anew costs page faults."""

import math

import torch
from torch import Tensor


class Scratch:
    """One piece of memory for each purpose."""

    def __init__(self, like: Tensor) -> None:
        self.like, self.known = like, dict[str, Tensor]()

    def take(self, name: str, *shape: int) -> Tensor:
        """What was taken by this name before is overwritten."""
        count = math.prod(shape)
        if name not in self.known or len(self.known[name]) < count:
            self.known[name] = self.like.new_empty(count)
        return self.known[name][:count].view(shape)

    def product(self, name: str, left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
        """scale · left · right, batch by batch: a batch whose results lie apart would be multiplied one by one."""
        room = self.take(name, len(left), left.shape[1], right.shape[2])
        return torch.baddbmm(room, left, right, beta=0.0, alpha=scale, out=room)
