"""All that a model attends to on a pair of sentences, or a text, piece by piece: a pass with the recorder open.

Word alignments of many pairs are read in alignment.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kotya.attention.reading import is_cross
from kotya.attention.recorder import record_attention
from kotya.errors import KotyaError
from kotya.folder import LoadedModel, read_config
from kotya.inference.alignment import END
from kotya.inference.contexts import ContextReader
from kotya.inference.generator import Generator
from kotya.inference.loading import load_single
from kotya.text.longest import check_length

BEGIN = "‹begin›"


@dataclass(frozen=True)
class Attention:
    """The weights of every layer as [heads, queries, keys], and the pieces they belong to. RNNs attend only across.

    Keys of the encoder and of cross-attention are the source pieces and the end. Queries of cross-attention are
    named by the piece they choose (the output), those of the decoder by the piece they read (the input).
    """

    source: list[str]
    inputs: list[str]
    outputs: list[str]
    encoder: list[Float[Tensor, "heads source source"]]
    decoder: list[Float[Tensor, "heads target target"]]
    cross: list[Float[Tensor, "heads target source"]]


@torch.inference_mode()
def attend(loaded: LoadedModel, source: str, target: str) -> Attention:
    """Read a sentence and its translation and keep all attention weights.

    Raises KotyaError where either has more than 4,096 pieces.
    """
    read, written = loaded.vocabularies
    source_ids, target_ids = read.encode(source), written.encode(target)
    check_length(source_ids, "the sentence")
    check_length(target_ids, "the target")
    device = next(loaded.model.parameters()).device
    sources = torch.tensor([[*source_ids, read.end]], device=device)
    lengths = torch.tensor([len(source_ids) + 1], device=device)
    with record_attention(loaded.model) as maps:
        loaded.model(sources, lengths, torch.tensor([[written.begin, *target_ids]], device=device))
    pieces = [piece.replace("▁", " ").strip() or "·" for piece in written.pieces(target_ids)]
    return Attention(
        source=[*(piece.replace("▁", " ").strip() or "·" for piece in read.pieces(source_ids)), END],
        inputs=[BEGIN, *pieces],
        outputs=[*pieces, END],
        **{kind: select(maps, kind) for kind in ("encoder", "decoder", "cross")},
    )


def attend_text(
    path: Path, texts: Sequence[str]
) -> tuple[list[str], list[Float[Tensor, "heads pieces pieces"]]]:
    """The pieces of a text, or of a pair to an encoder, and what each layer of the model attends to.

    Raises KotyaError where the model reads no such text.
    """
    if read_config(path).task != "language_model":
        return ContextReader(path).attention(texts)
    if len(texts) > 1:
        raise KotyaError("a language model reads one text")
    model = load_single(path)
    assert isinstance(model, Generator)
    return model.attention(texts[0])


def select(maps: dict[str, list[Tensor]], kind: str) -> list[Tensor]:
    """The layers of one kind, in order: encoder self-attention, decoder self-attention, cross-attention."""
    part = "decoder" if kind == "cross" else kind
    return [
        calls[0][0].float().cpu()
        for name, calls in maps.items()
        if name.startswith(part) and is_cross(name) == (kind == "cross")
    ]
