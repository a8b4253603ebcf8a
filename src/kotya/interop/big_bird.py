"""BigBird (Zaheer et al. 2020) as Hugging Face stores it: BERT with block-sparse attention and GELU by way of tanh.

Outputs are those of the library outside training, where its random blocks are all the first one (`block_sparse.py`),
for a text by itself. Two things of the library's are not ours: in a padded batch it takes the last block of the batch
for that of every text; and a model that once has read a text of (5 + 2 · num_random_blocks) · block_size tokens or
fewer, which it reads in full as we do, reads all later ones in full. Training keeps to the same pattern: no blocks are
drawn anew.
"""

from pathlib import Path
from typing import Any

from kotya.attention.choices import EVERYTHING, BlockSparseConfig, LayersAttention
from kotya.interop.bert import HEADS, BertJson, PlainBert, exchanged
from kotya.interop.family import Family, Head, build_settings, only, validated
from kotya.models.bert import BertConfig
from kotya.models.transformer_block import Activation


class BigBirdJson(BertJson):
    """What is read of a BigBird's."""

    hidden_act: str = "gelu_new"
    max_position_embeddings: int = 4096
    attention_type: str = "block_sparse"
    block_size: int = 64
    num_random_blocks: int = 3
    use_bias: bool = True
    rescale_embeddings: bool = False


class _BigBird(PlainBert):
    model_type = "big_bird"
    stem = "BigBird"
    heads = HEADS | {"encoder.pooler.dense": "bert.pooler"}

    def settings(self, content: dict[str, Any], head: Head, path: Path) -> BertConfig:
        found = validated(BigBirdJson, content, path)
        only(path, found, attention_type=("block_sparse", "original_full"), use_bias=(True,))
        only(path, found, rescale_embeddings=(False,))
        model = super().settings(found.model_dump(), head, path)
        attention: dict[str, Any] = {}
        if found.attention_type == "block_sparse":
            sparse = {"kind": "block_sparse", "size": found.block_size, "random": found.num_random_blocks}
            attention = {"attention": sparse}
        pooler = {"pooler": _pooler(model.activation, head)}
        return build_settings(path, **model.model_dump() | attention | pooler)

    def under(self, model: BertConfig, head: Head) -> BertConfig:
        return model.model_copy(update={"pooler": _pooler(model.activation, head)})

    def activations(self, head: Head) -> dict[str, Activation]:
        """Its heads have the layers' own, and ours behind a classifier's matrix are these."""
        tanh: dict[str, Activation] = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
        other: dict[Head, dict[str, Activation]] = {
            "masked_lm": {"gelu": "gelu"},
            "classification": {"relu": "relu"},
        }
        return tanh | other.get(head, super().activations(head))

    def attention(self, model: BertConfig) -> LayersAttention:
        """The model's own, where it is theirs."""
        sparse = len(set(model.attention)) == 1 and isinstance(model.attention[0], BlockSparseConfig)
        return model.attention if sparse else EVERYTHING

    def lacks(self, model: BertConfig, head: Head) -> str | None:
        if not model.segments:
            return "no segments"
        pooler = _pooler(model.activation, head)
        if head == "classification" and model.pooler == "tanh" != pooler:
            return f"pooler tanh, where its classifier has {pooler}: tune an import of BigBirdForSequenceClassification"
        sparse = model.attention[0]
        if isinstance(sparse, BlockSparseConfig):
            if not sparse.random:
                return "no random blocks: their code has one at least"
            if model.max_length % sparse.size:
                return (
                    f"a longest text of {model.max_length} pieces, no whole number of blocks of {sparse.size}"
                )
        return self.not_published(model, head, pooler)

    def content(self, model: BertConfig, pad: int) -> dict[str, Any]:
        content = {**super().content(model, pad), "attention_type": "original_full"}
        sparse = model.attention[0]
        if isinstance(sparse, BlockSparseConfig):
            blocks = {"block_size": sparse.size, "num_random_blocks": sparse.random}
            content |= {"attention_type": "block_sparse", **blocks}
        return content

    def _outside(self, name: str, head: Head) -> str:
        classifier = {"encoder.pooler.dense": "classifier.dense", "head": "classifier.out_proj"}
        return exchanged(name, self.heads | (classifier if head == "classification" else {}))


def _pooler(activation: Activation, head: Head) -> str:
    """What its classifier's matrix is followed by: the layers' own activation."""
    return activation if head == "classification" else "tanh"


BIG_BIRD: Family = _BigBird()
