"""JoeyNMT with the weights of an LSTM that kotya trained, in its own model and its own search.

    .benchmarks/venv/bin/python benchmarks/translate_joeynmt_rnn.py --model lstm-mlp --beam 5

What differs is evened out: JoeyNMT's gates stand in the order i, f, g, o; it does not scale embeddings; its begin and
unknown pieces have other numbers; and its decoder starts from the encoder's hidden state alone, kotya's (where both are
of one size) from hidden and memory.
"""

from collections.abc import Mapping

import torch
from joeynmt.model import Model, build_model
from joeynmt.vocabulary import Vocabulary
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

import architectures
import joeynmt_search
import rnns
import translating

LAYERS = {
    "encoder.forwards.0": "encoder.rnn.{}_l0",
    "encoder.backwards.0": "encoder.rnn.{}_l0_reverse",
    "decoder.stack.layers.0": "decoder.rnn.{}_l0",
}
SCORES = {
    "score.key.weight": "key_layer.weight",
    "score.query.weight": "query_layer.weight",
    "score.outer": "energy_layer.weight",
}


def reordered(gates: Tensor) -> Tensor:
    """From i, f, o, g to i, f, g, o."""
    i, f, o, g = gates.chunk(4)
    return torch.cat([i, f, g, o])


def translated(weights: Mapping[str, Tensor], order: list[int]) -> dict[str, Tensor]:
    """kotya's weights by JoeyNMT's names."""
    state = {"decoder.output_layer.weight": weights["decoder.output_weight"][order]}
    for side, name in (("encoder", "src_embed"), ("decoder", "trg_embed")):
        embedding = weights[f"{side}.embedding.weight"][order]
        state[f"{name}.lut.weight"] = embedding * embedding.shape[1] ** 0.5
    for layer, name in LAYERS.items():
        inputs = weights[f"{layer}.input.weight"]
        if layer.startswith("decoder"):
            inputs = torch.cat([inputs, weights["decoder.feed.weight"]], dim=1)
        bias = reordered(weights[f"{layer}.input.bias"])
        state[name.format("weight_ih")] = reordered(inputs)
        state[name.format("weight_hh")] = reordered(weights[f"{layer}.recurrent.0.weight"])
        state[name.format("bias_ih")], state[name.format("bias_hh")] = bias, torch.zeros_like(bias)
    for ours, theirs in SCORES.items():
        if f"decoder.cross.{ours}" in weights:
            weight = weights[f"decoder.cross.{ours}"]
            state[f"decoder.attention.{theirs}"] = weight if weight.dim() == 2 else weight[None]
    context, query = weights["decoder.combine.weight"].chunk(2, dim=1)
    state["decoder.att_vector_layer.weight"] = torch.cat([query, context], dim=1)
    state["decoder.att_vector_layer.bias"] = torch.zeros(len(query))
    return state


class Start:
    """The decoder's first states: where the encoder ended in both directions, its memory too."""

    def __init__(self, model: Model) -> None:
        self.states: tuple[Tensor, Tensor] | None = None
        model.encoder.rnn.register_forward_hook(self.keep)
        model.decoder._init_hidden = self

    def keep(self, rnn: nn.Module, inputs: object, outputs: tuple[object, tuple[Tensor, Tensor]]) -> None:
        hidden, memory = (torch.cat([*state], dim=1)[None] for state in outputs[1])
        self.states = hidden, memory

    def __call__(self, encoder_final: Tensor) -> tuple[Tensor, Tensor]:
        assert self.states is not None
        return self.states


def load(name: str, pieces: dict[str, int]) -> tuple[Model, Vocabulary]:
    vocabulary = joeynmt_search.vocabulary_of(sorted(pieces, key=pieces.__getitem__))
    model = build_model(architectures.joeynmt_model(name), vocabulary, vocabulary)
    weights = load_file(rnns.folder(name) / "model.safetensors")
    state = translated(weights, [pieces[piece] for piece in vocabulary._itos])
    unused = {key: value for key, value in model.state_dict().items() if "bridge_layer" in key}
    model.load_state_dict(state | unused)
    Start(model)
    return model.eval(), vocabulary


def main() -> None:
    arguments = translating.arguments(__doc__)
    tokenizer = Tokenizer.from_file(str(rnns.folder(arguments.model) / "tokenizer.json"))
    model, vocabulary = load(arguments.model, tokenizer.get_vocab())
    cap = translating.cap(arguments.model)

    def translate(lines: list[str]) -> list[str]:
        pieces = [one.tokens for one in tokenizer.encode_batch(lines, add_special_tokens=False)]
        found = joeynmt_search.translate(model, vocabulary, pieces, beam=arguments.beam, cap=cap)
        return tokenizer.decode_batch([list(map(tokenizer.token_to_id, line)) for line in found])

    translating.measure("JoeyNMT", translate, beam=arguments.beam)


if __name__ == "__main__":
    main()
