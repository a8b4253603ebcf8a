"""Recurrent layers against PyTorch's own and the papers' formulas; Luong's and Bahdanau's decoders in plain float64."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kotya.attention.recorder import record_attention
from kotya.models.bahdanau import BahdanauDecoder
from kotya.models.composed import ComposedConfig
from kotya.models.luong import LuongDecoder
from kotya.models.rnn import CELLS, RecurrentLayer
from kotya.models.rnn_decoder import RNNDecoder
from kotya.models.rnn_encoder import RNNEncoder
from kotya.models.seq2seq import CellKind, Memory, Seq2Seq

V, SIZE, WIDE = 11, 6, 5
KINDS: tuple[CellKind, ...] = ("tanh", "gru", "lstm")
SOURCE = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 2, 2, 2], [4, 1, 1, 1, 1]])
LENGTHS = torch.tensor([5, 3, 1])
TARGETS = torch.tensor([[1, 4, 6, 8], [1, 3, 3, 2], [1, 9, 5, 7]])


def build(encoder: dict[str, Any], decoder: dict[str, Any]) -> Seq2Seq:
    torch.manual_seed(1)
    config = {
        "kind": "seq2seq",
        "encoder": {"kind": "rnn", "size": SIZE, "embedding": WIDE, **encoder},
        "decoder": {"size": SIZE, "embedding": WIDE, **decoder},
    }
    model = ComposedConfig.model_validate(config).build(V, V).double().eval()
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    return model


def step(layer: RecurrentLayer, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of one row as the papers write it; `x` is Wx + b."""
    size = len(h)
    matrices = [matrix.weight for matrix in layer.recurrent if isinstance(matrix, nn.Linear)]
    if layer.cell.gates == 1:
        return torch.tanh(x + matrices[0] @ h), c
    if layer.cell.gates == 3:
        r, z = torch.sigmoid(x[: 2 * size] + matrices[0] @ h).split(size)
        n = torch.tanh(x[2 * size :] + matrices[1] @ (r * h))
        return (1 - z) * h + z * n, c
    i, f, o, g = (x + matrices[0] @ h).split(size)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def embed(module: nn.Module, ids: Tensor) -> Tensor:
    weight = module.get_parameter("weight")
    return weight[ids] * weight.shape[1] ** 0.5


def run(layer: RecurrentLayer, rows: list[Tensor], h: Tensor, c: Tensor) -> list[tuple[Tensor, Tensor]]:
    states = []
    for x in rows:
        h, c = step(layer, layer.input.weight @ x + layer.input.bias, h, c)
        states.append((h, c))
    return states


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_its_formula_and_its_backward_is_autograd_s(kind: CellKind) -> None:
    torch.manual_seed(1)
    layer = RecurrentLayer(kind, WIDE, SIZE).double()
    x = torch.randn(7, 3, WIDE, dtype=torch.double)
    h, c = torch.randn(2, 3, SIZE, dtype=torch.double)
    wanted = torch.randn(2, 7, 3, SIZE, dtype=torch.double)
    memory = c if CELLS[kind].has_memory else None

    def plain() -> tuple[Tensor, Tensor]:
        rows = [run(layer, list(x[:, row]), h[row], c[row]) for row in range(3)]
        both = [torch.stack([torch.stack([s[i] for s in row]) for row in rows], 1) for i in (0, 1)]
        return both[0], both[1]

    def whole() -> tuple[Tensor, Tensor | None]:
        states: tuple[Tensor, Tensor | None] = layer(layer.input(x), h, memory)
        return states

    def steps() -> tuple[Tensor, Tensor | None]:
        one, state, hiddens, cells = layer.stepper(torch.double), (h, memory), [], []
        for gates in layer.input(x).unbind(0):
            state = one(gates, *state)
            hiddens.append(state[0])
            cells.append(state[1])
        return torch.stack(hiddens), None if memory is None else torch.stack(cells)

    results = []
    for compute in (plain, whole, steps):
        leaves = [
            x.requires_grad_(),
            h.requires_grad_(),
            *([c.requires_grad_()] if memory is not None else []),
        ]
        hidden, cells = compute()
        loss = (hidden * wanted[0]).sum()
        if memory is not None and cells is not None:
            loss = loss + (cells * wanted[1]).sum()
        results.append([hidden, *torch.autograd.grad(loss, [*leaves, *layer.parameters()])])
    with torch.no_grad():
        torch.testing.assert_close(whole()[0], results[0][0])
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["tanh", "lstm"])
def test_a_layer_is_pytorch_s(kind: CellKind) -> None:
    """Its GRU is cuDNN's, whose reset stands behind the product; the papers' is before."""
    torch.manual_seed(1)
    layer = RecurrentLayer(kind, WIDE, SIZE)
    theirs = (nn.LSTM if kind == "lstm" else nn.RNN)(WIDE, SIZE)
    order = torch.arange(layer.cell.gates * SIZE)
    if kind == "lstm":  # theirs are i, f, g, o
        order = torch.cat([order[: 2 * SIZE], order[3 * SIZE :], order[2 * SIZE : 3 * SIZE]])
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(layer.input.weight[order])
        theirs.weight_hh_l0.copy_(layer.weights()[0][order])
        theirs.bias_ih_l0.copy_(layer.input.bias[order])
        theirs.bias_hh_l0.zero_()
    x, zeros = torch.randn(7, 3, WIDE), torch.zeros(3, SIZE)
    ours = layer(layer.input(x), zeros, zeros if kind == "lstm" else None)[0]
    torch.testing.assert_close(ours, theirs(x)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bidirectional_encoder_is_two_readings_side_by_side(kind: CellKind) -> None:
    """Every row by itself, unpadded, forwards and backwards; the second layer reads both."""
    model = build({"cell": kind, "bidirectional": True, "layers": 2}, {"kind": "rnn"})
    encoder = model.encoder
    assert isinstance(encoder, RNNEncoder)
    memory = model.encode(SOURCE, LENGTHS)
    assert memory.final is not None
    zeros = torch.zeros(SIZE, dtype=torch.double)
    for row, length in enumerate(LENGTHS.tolist()):
        xs = list(embed(encoder.embedding, SOURCE[row, :length]))
        for depth in range(2):
            there = run(encoder.forwards[depth], xs, zeros, zeros)
            back = run(encoder.backwards[depth], xs[::-1], zeros, zeros)
            for i, states in enumerate((memory.final.hidden, memory.final.cells)):
                if states is not None:
                    torch.testing.assert_close(states[row, depth], torch.cat([there[-1][i], back[-1][i]]))
            xs = [torch.cat([one[0], two[0]]) for one, two in zip(there, back[::-1], strict=True)]
        torch.testing.assert_close(memory.keys[row, :length], torch.stack(xs))
        assert memory.final.backward is not None
        torch.testing.assert_close(memory.final.backward[row], back[-1][0])


def test_a_source_read_backwards_keeps_its_end_and_its_places() -> None:
    model = build({"cell": "gru", "reverse_source": True}, {"kind": "rnn"})
    encoder = model.encoder
    assert isinstance(encoder, RNNEncoder)
    memory = model.encode(SOURCE, LENGTHS)
    zeros = torch.zeros(SIZE, dtype=torch.double)
    for row, length in enumerate(LENGTHS.tolist()):
        xs = list(embed(encoder.embedding, SOURCE[row, :length]))
        states = [h for h, _ in run(encoder.forwards[0], [*xs[-2::-1], xs[-1]], zeros, zeros)]
        torch.testing.assert_close(memory.keys[row, :length], torch.stack([*states[-2::-1], states[-1]]))
        assert memory.final is not None
        torch.testing.assert_close(memory.final.hidden[row, 0], states[-1])


def memory_of(model: Seq2Seq, row: int) -> tuple[Memory, list[Tensor]]:
    memory = model.encode(SOURCE, LENGTHS).line(row)
    return memory, list(memory.keys[0])


def context(score: nn.Module, h: Tensor, keys: list[Tensor]) -> Tensor:
    """Σ a_k s_k, with the MLP score written out."""
    query, key, outer = (score.get_parameter(name) for name in ("query.weight", "key.weight", "outer"))
    scores = torch.stack([outer @ torch.tanh(query @ h + key @ s) for s in keys])
    return scores.softmax(0) @ torch.stack(keys)


def test_without_attention_the_state_is_copied_or_the_summary_fed() -> None:
    """Sutskever: h_0 is the encoder's last state. Cho: the summary is part of every step's input."""
    for fed in (False, True):
        model = build({"cell": "lstm"}, {"kind": "rnn", "cell": "lstm", "feed_summary": fed})
        decoder = model.decoder
        assert isinstance(decoder, RNNDecoder)
        hidden = model(SOURCE, LENGTHS, TARGETS)
        layer = decoder.stack.first
        for row in range(3):
            final = memory_of(model, row)[0].final
            assert final is not None
            assert final.cells is not None
            h, c = final.hidden[0, 0], final.cells[0, 0]
            extra = decoder.summary.weight @ h if decoder.summary is not None else 0.0
            for t, y in enumerate(embed(decoder.embedding, TARGETS[row])):
                h, c = step(layer, layer.input.weight @ y + layer.input.bias + extra, h, c)
                torch.testing.assert_close(hidden[row, t], h)


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_luong_is_the_paper(kind: CellKind, feeding: bool) -> None:
    """Step first; the score is of the *new* state; h̃ = tanh(W_c [c; h]); fed into the next step, or not."""
    luong = {"kind": "luong", "cell": kind, "layers": 2, "score": "mlp", "input_feeding": feeding}
    model = build({"cell": kind, "layers": 2}, luong)
    decoder = model.decoder
    assert isinstance(decoder, LuongDecoder)
    hidden = model(SOURCE, LENGTHS, TARGETS)
    first, second = (layer for layer in decoder.stack.layers if isinstance(layer, RecurrentLayer))
    for row in range(3):
        memory, keys = memory_of(model, row)
        final = memory.final
        assert final is not None
        h = list(final.hidden[0])
        c = list(final.hidden[0] if final.cells is None else final.cells[0])
        vector = torch.zeros(SIZE, dtype=torch.double)
        for t, y in enumerate(embed(decoder.embedding, TARGETS[row])):
            x = first.input.weight @ y + first.input.bias
            if decoder.feed is not None:
                x = x + decoder.feed.weight @ vector
            h[0], c[0] = step(first, x, h[0], c[0])
            h[1], c[1] = step(second, second.input.weight @ h[0] + second.input.bias, h[1], c[1])
            looked = context(decoder.cross.score, h[1], keys)
            vector = torch.tanh(decoder.combine.weight @ torch.cat([looked, h[1]]))
            torch.testing.assert_close(hidden[row, t], vector)


def test_bahdanau_is_the_paper() -> None:
    """Appendix A: look from the *previous* state, then step with the context in every gate; maxout readout."""
    model = build({"cell": "gru", "bidirectional": True}, {"kind": "bahdanau", "readout": 4})
    decoder = model.decoder
    assert isinstance(decoder, BahdanauDecoder)
    hidden = model(SOURCE, LENGTHS, TARGETS)
    layer = decoder.stack.first
    start = decoder.bridge.linear
    assert start is not None
    for row in range(3):
        memory, keys = memory_of(model, row)
        assert memory.final is not None
        assert memory.final.backward is not None
        torch.testing.assert_close(memory.final.backward[0], keys[0][SIZE:])
        h = torch.tanh(start.weight @ keys[0][SIZE:] + start.bias)
        for t, y in enumerate(embed(decoder.embedding, TARGETS[row])):
            c = context(decoder.cross.score, h, keys)
            sums = decoder.readout_state.weight @ h + decoder.readout_state.bias
            sums = sums + decoder.readout_embedding.weight @ y + decoder.readout_context.weight @ c
            readout = torch.stack([max(sums[2 * j], sums[2 * j + 1]) for j in range(4)])
            torch.testing.assert_close(hidden[row, t], readout)
            x = layer.input.weight @ y + layer.input.bias + decoder.context.weight @ c
            h, _ = step(layer, x, h, h)


def test_luong_and_bahdanau_differ_as_the_papers_do() -> None:
    """What was read last moves Luong's attention at once, Bahdanau's one step later."""
    other = TARGETS.clone()
    other[:, 2] = (other[:, 2] + 1) % V
    for kind, moved in (("luong", 2), ("bahdanau", 3)):
        model = build({}, {"kind": kind, "score": "mlp"})
        maps = []
        for targets in (TARGETS, other):
            with torch.no_grad(), record_attention(model) as recorded:
                model(SOURCE, LENGTHS, targets)
            maps.append(recorded["decoder.cross"][0][0, 0])
        same = [torch.equal(one, two) for one, two in zip(*maps, strict=True)]
        assert same == [t < moved for t in range(4)]


def test_the_weights_recorded_are_one_map_of_every_step() -> None:
    for decoder in ({"kind": "bahdanau"}, {"kind": "luong", "input_feeding": True}, {"kind": "luong"}):
        model = build({}, decoder)
        with record_attention(model) as maps:
            hidden = model(SOURCE, LENGTHS, TARGETS)
        [weights] = maps["decoder.cross"]
        assert weights.shape == (3, 1, 4, 5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 1, 4, dtype=weights.dtype))
        assert weights[2, 0, :, 1:].eq(0).all()
        torch.testing.assert_close(hidden, model(SOURCE, LENGTHS, TARGETS))


def test_bf16_stays_near_float32() -> None:
    for decoder in ({"kind": "bahdanau"}, {"kind": "luong", "input_feeding": True, "score": "mlp"}):
        model = build({"bidirectional": True}, decoder).float()
        exact = model(SOURCE, LENGTHS, TARGETS)
        exact.sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(SOURCE, LENGTHS, TARGETS)
        rounded.float().sum().backward()
        torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0.05)
        for name, parameter in model.named_parameters():
            if name in gradients:
                assert parameter.grad is not None
                error = (parameter.grad - gradients[name]).norm() / (gradients[name].norm() + 1e-3)
                assert float(error) < 0.1, name
