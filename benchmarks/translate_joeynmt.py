"""JoeyNMT with the very same weights, in its own model and its own search; batches of 64 in the order of the file.

    .benchmarks/venv/bin/python benchmarks/translate_joeynmt.py --beam 5

Two things differ between the architectures and are evened out: JoeyNMT interleaves sines and cosines, so that the
features of every weight change places; and it begins with a piece of its own, which gets Marian's padding vector.
"""

import json

import sentencepiece
import torch
from joeynmt.model import Model, build_model
from joeynmt.vocabulary import Vocabulary
from safetensors.torch import load_file
from torch import Tensor, nn

import joeynmt_search
import translating

PLACES = {
    "encoder": {
        "self_attn": "src_src_att",
        "self_attn_layer_norm": "layer_norm",
        "fc1": "feed_forward.pwff_layer.0",
        "fc2": "feed_forward.pwff_layer.3",
        "final_layer_norm": "feed_forward.layer_norm",
    },
    "decoder": {
        "self_attn": "trg_trg_att",
        "self_attn_layer_norm": "x_layer_norm",
        "encoder_attn": "src_trg_att",
        "encoder_attn_layer_norm": "dec_layer_norm",
        "fc1": "feed_forward.pwff_layer.0",
        "fc2": "feed_forward.pwff_layer.3",
        "final_layer_norm": "feed_forward.layer_norm",
    },
}
PROJECTIONS = {"q_proj": "q_layer", "k_proj": "k_layer", "v_proj": "v_layer", "out_proj": "output_layer"}


def reordered(name: str, weight: Tensor) -> Tensor:
    """Features of the residual stream from sine|cosine halves to sine, cosine, sine, cosine …"""
    size = 256
    order = torch.arange(size).view(2, -1).T.flatten()
    kind = name.split(".")[-2]
    reads = kind in ("q_proj", "k_proj", "v_proj", "fc1", "shared")
    writes = kind in ("out_proj", "fc2") or "layer_norm" in kind
    if reads and weight.dim() == 2:
        return weight[:, order]
    return weight[order] if writes else weight


def translated(name: str) -> str:
    """Marian's name of a layer's weight to JoeyNMT's."""
    _, side, layers, depth, part, *rest = name.split(".")
    return ".".join([side, layers, depth, PLACES[side][part], *(PROJECTIONS.get(one, one) for one in rest)])


def load() -> tuple[Model, Vocabulary]:
    folder = translating.model_folder()
    stored = load_file(folder / "model.safetensors")
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    vocabulary = joeynmt_search.vocabulary_of(list(ids))
    stack = {
        "type": "transformer",
        "num_layers": 3,
        "num_heads": 4,
        "embeddings": {"embedding_dim": 256, "scale": True},
        "hidden_size": 256,
        "ff_size": 1024,
        "layer_norm": "post",
    }
    tying = {"tied_embeddings": True, "tied_softmax": True}
    model = build_model({"encoder": stack, "decoder": stack, **tying}, vocabulary, vocabulary)
    bias = stored.pop("final_logits_bias")[0]
    weights = {name: reordered(name, weight) for name, weight in stored.items()}
    order = [ids["<pad>" if piece == "<s>" else piece] for piece in vocabulary._itos]
    embedding = weights.pop("model.shared.weight")[order]
    state = {translated(name): weight for name, weight in weights.items()}
    state |= dict.fromkeys(
        ("src_embed.lut.weight", "trg_embed.lut.weight", "decoder.output_layer.weight"), embedding
    )
    fixed = {name: value for name, value in model.state_dict().items() if name.endswith(".pe")}
    model.load_state_dict(state | fixed)
    model.decoder.output_layer.bias = nn.Parameter(bias[order])
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    return model.eval(), vocabulary


def main() -> None:
    arguments = translating.arguments(__doc__)
    folder = translating.model_folder()
    model, vocabulary = load()
    source = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    target = sentencepiece.SentencePieceProcessor(model_file=str(folder / "target.spm"))

    def translate(lines: list[str]) -> list[str]:
        pieces = source.encode(lines, out_type=str)
        cap = translating.cap(arguments.model)
        found = joeynmt_search.translate(model, vocabulary, pieces, beam=arguments.beam, cap=cap)
        return [target.decode(line) for line in found]

    translating.measure("JoeyNMT", translate, beam=arguments.beam)


if __name__ == "__main__":
    main()
