"""Longformer (Beltagy et al. 2020) as Hugging Face stores it: RoBERTa with a window in each layer and global positions.

Which positions are global is in no file. In a classifier it is the first, as in theirs, and so it is in a bare encoder,
which is there to be tuned; a tagger and a masked language model have none, as theirs have none unless they are told.
"""

from pathlib import Path
from typing import Any

from kotya.attention.choices import (
    AttentionConfig,
    LayersAttention,
    of_layer,
    patterns_of,
)
from kotya.attention.patterns import Either, Global, Window
from kotya.errors import KotyaError
from kotya.interop.bert import PARTS, ROBERTA_HEADS, BertJson, Roberta
from kotya.interop.family import Family, Head, build_settings, validated
from kotya.models.bert import BertConfig

WITHOUT_GLOBAL: tuple[Head, ...] = ("masked_lm", "tagging")
"""Heads of theirs under which no position is global."""
CALLED: dict[Head, str] = {
    "encoder": "bare encoder",
    "masked_lm": "masked language model",
    "classification": "classifier",
    "tagging": "tagger",
}


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
        if head in WITHOUT_GLOBAL:
            return window
        return {"kind": "any", "of": [window, {"kind": "global", "positions": 1}]}

    def attention(self, model: BertConfig) -> LayersAttention:
        """The model's own: whether it is theirs depends on the head."""
        return model.attention

    def lacks(self, model: BertConfig, head: Head) -> str | None:
        lack = super().lacks(model, head)
        if lack is not None:
            return lack
        theirs = "no global position" if head in WITHOUT_GLOBAL else "the first position global"
        for attention in model.attention:
            found = _of_theirs(attention)
            if found is None:
                return f"attention that is no window, as wide to the left as to the right, with {theirs}"
            if found[1] == (head in WITHOUT_GLOBAL):
                ours = "the first position global" if found[1] else "no global position"
                return f"a {CALLED[head]} with {ours}; theirs has {theirs}"
        sides = [found[0] for found in map(_of_theirs, model.attention) if found]
        if min(sides) < 2 or any(max(sides) % side for side in sides):
            return "windows of one position to a side, or that do not divide the widest: their code has no such ones"
        return None

    def content(self, model: BertConfig, pad: int) -> dict[str, Any]:
        layers = [_of_theirs(of_layer(model.attention, layer)) for layer in range(model.layers)]
        return {
            **super().content(model, pad),
            "attention_window": [2 * found[0] for found in layers if found],
        }


def _of_theirs(attention: AttentionConfig) -> tuple[int, bool] | None:
    """How far to either side a layer's windows see, and whether its first position is global; None for any other."""
    match patterns_of(attention):
        case (Window(side, right, 1),) if 0 < side == right:
            return side, False
        case (Either(Window(side, right, 1), Global(1 | (0,))),) | (
            Either(Global(1 | (0,)), Window(side, right, 1)),
        ) if 0 < side == right:
            return side, True
    return None


LONGFORMER: Family = _Longformer()
