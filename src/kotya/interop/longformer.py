"""Longformer (Beltagy et al. 2020) as Hugging Face stores it: RoBERTa with a window in each layer and global positions.

Which positions are global is in no file. In a classifier it is the first, as in theirs, and so it is in a bare encoder,
which is there to be tuned; a tagger and a masked language model have none, as theirs have none unless they are told.
"""

from pathlib import Path
from typing import Any

from kotya.attention.choices import (
    EVERYTHING,
    AnyConfig,
    AttentionConfig,
    GlobalConfig,
    LayersAttention,
    WindowConfig,
    of_layer,
)
from kotya.errors import KotyaError
from kotya.interop.bert import PARTS, ROBERTA_HEADS, BertJson, Roberta
from kotya.interop.family import Family, Head, build_settings, validated
from kotya.models.bert import BertConfig


class LongformerJson(BertJson):
    """What is read of a Longformer's."""

    attention_window: int | list[int] = 512

    def windows(self) -> list[int]:
        """One a layer."""
        found = self.attention_window
        return [found] * self.num_hidden_layers if isinstance(found, int) else found


class _Longformer(Roberta):
    model_type = "longformer"
    prefix = "longformer."
    stem = "Longformer"
    parts = PARTS | {
        f"attention.wide.{one}": f"attention.self.{one}_global" for one in ("query", "key", "value")
    }
    heads = ROBERTA_HEADS | {"encoder.pooler.dense": "longformer.pooler.dense"}
    global_projections = True

    def settings(self, content: dict[str, Any], head: Head, path: Path) -> BertConfig:
        model = super().settings(content, head, path)
        windows = validated(LongformerJson, content, path).windows()
        if len(windows) != model.layers or any(window % 2 for window in windows):
            raise KotyaError(
                f"{path}: attention_window {windows}; read is one even number for each of {model.layers} layers"
            )
        layers = [self._window(window // 2, head) for window in windows]
        attention = layers[:1] if len(set(windows)) == 1 else layers
        return build_settings(
            path, **model.model_dump() | {"attention": attention, "global_projections": True}
        )

    @staticmethod
    def _window(side: int, head: Head) -> dict[str, Any]:
        window = {"kind": "window", "left": side, "right": side}
        if head in ("masked_lm", "tagging"):
            return window
        return {"kind": "any", "of": [window, {"kind": "global", "positions": 1}]}

    def attention(self, model: BertConfig) -> LayersAttention:
        """The model's own, where it is one of theirs."""
        return model.attention if all(_side(one) is not None for one in model.attention) else EVERYTHING

    def lacks(self, model: BertConfig, head: Head) -> str | None:
        return super().lacks(model, head) or (None if model.attention != EVERYTHING else "full attention")

    def content(self, model: BertConfig, pad: int) -> dict[str, Any]:
        layers = [of_layer(model.attention, layer) for layer in range(model.layers)]
        return {**super().content(model, pad), "attention_window": [2 * (_side(one) or 0) for one in layers]}


def _side(attention: AttentionConfig) -> int | None:
    """How far to either side a window sees, alone or with the first position global; None for any other pattern."""
    window = attention
    if (
        isinstance(attention, AnyConfig)
        and len(attention.of) == 2
        and attention.of[1] == GlobalConfig(kind="global")
    ):
        window = attention.of[0]
    plain = isinstance(window, WindowConfig) and window.left == window.right and window.dilation == 1
    return window.left if plain and isinstance(window, WindowConfig) else None


LONGFORMER: Family = _Longformer()
