"""The models that kotya and JoeyNMT both train and search with, as either's settings.

`transformer` is that of all the training benchmarks. The RNNs are JoeyNMT's own, from its IWSLT recipe
(configs/iwslt14_deen_bpe.yaml): one layer, embeddings of 620, an encoder of 500 in either direction, a decoder of 1,000
with input feeding. JoeyNMT calls its MLP score `bahdanau` and its bilinear one `luong`; its decoder attends after the
step with both, as Luong's does.
"""

from typing import Any

RNNS = {"gru-mlp": ("gru", "mlp"), "lstm-mlp": ("lstm", "mlp"), "lstm-bilinear": ("lstm", "bilinear")}
NAMES = ("transformer", *RNNS)
_RNN_DROPOUT = 0.2


def kotya_model(name: str, *, dropouts: str = "paper") -> dict[str, Any]:
    """The `model` section of a recipe."""
    if name in RNNS:
        cell, score = RNNS[name]
        rnn = {"cell": cell, "embedding": 620}
        encoder = {**rnn, "kind": "rnn", "size": 500, "bidirectional": True}
        decoder = {**rnn, "kind": "luong", "size": 1000, "score": score, "input_feeding": True}
        return {"kind": "seq2seq", "encoder": encoder, "decoder": decoder, "dropout": _RNN_DROPOUT}
    inner = 0.1 if dropouts == "all" else 0.0
    return {
        "kind": "transformer",
        "size": 256,
        "heads": 4,
        "feed_forward": 1024,
        "encoder_layers": 3,
        "decoder_layers": 3,
        "dropout": 0.1,
        "attention_dropout": inner,
        "feed_forward_dropout": inner,
    }


def joeynmt_model(name: str) -> dict[str, Any]:
    """The `model` section of its configuration."""
    initial = {"initializer": "xavier_uniform", "embed_initializer": "xavier_uniform"}
    if name in RNNS:
        cell, score = RNNS[name]
        rnn = {"type": "recurrent", "rnn_type": cell, "embeddings": {"embedding_dim": 620}, "num_layers": 1}
        encoder = {**rnn, "hidden_size": 500, "bidirectional": True, "dropout": _RNN_DROPOUT}
        decoder = {**rnn, "hidden_size": 1000, "dropout": _RNN_DROPOUT, "hidden_dropout": _RNN_DROPOUT}
        attention = {"mlp": "bahdanau", "bilinear": "luong"}[score]
        decoder |= {"input_feeding": True, "init_hidden": "bridge", "attention": attention}
        return {**initial, "encoder": encoder, "decoder": decoder}
    stack = {
        "type": "transformer",
        "num_layers": 3,
        "num_heads": 4,
        "embeddings": {"embedding_dim": 256, "scale": True, "dropout": 0.1},
        "hidden_size": 256,
        "ff_size": 1024,
        "dropout": 0.1,
        "layer_norm": "post",
    }
    return {**initial, "tied_embeddings": True, "tied_softmax": True, "encoder": stack, "decoder": stack}
