"""JoeyNMT's own search over a model of its own, as both of its sides call it: batches in the order of the file."""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from joeynmt.batch import Batch
from joeynmt.model import Model
from joeynmt.search import search
from joeynmt.vocabulary import Vocabulary
from torch import nn

BATCH = 64
SPECIAL = {"unk": "<unk>", "pad": "<pad>", "bos": "<s>", "eos": "</s>"}


def vocabulary_of(pieces: Sequence[str]) -> Vocabulary:
    """Its vocabulary: the special pieces, then the others of `pieces`, in their order."""
    roles = {f"{role}_token": piece for role, piece in SPECIAL.items()}
    roles |= {f"{role}_id": number for number, role in enumerate(SPECIAL)}
    rest = [piece for piece in pieces if piece not in SPECIAL.values()]
    return Vocabulary(
        [*SPECIAL.values(), *rest], SimpleNamespace(**roles, lang_tags=[], sep_token=None, sep_id=None)
    )


def translate(
    model: Model, vocabulary: Vocabulary, lines: Sequence[Sequence[str]], *, beam: int, cap: int
) -> list[list[str]]:
    """Pieces of the translations, from the pieces of lines without their end."""
    batches = [lines[first : first + BATCH] for first in range(0, len(lines), BATCH)]
    return [found for batch in batches for found in _translate_batch(model, vocabulary, batch, beam, cap)]


def _translate_batch(
    model: Model, vocabulary: Vocabulary, lines: Sequence[Sequence[str]], beam: int, cap: int
) -> list[list[str]]:
    rows = [torch.tensor([*map(vocabulary.lookup, line), model.eos_index]) for line in lines]
    batch = Batch(
        src=nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=model.pad_index),
        src_length=torch.tensor([len(row) for row in rows]),
        src_prompt_mask=None,
        trg=None,
        trg_prompt_mask=None,
        indices=torch.arange(len(rows)),
        device=torch.device("cpu"),
        pad_index=model.pad_index,
        eos_index=model.eos_index,
        is_train=False,
    )
    back = batch.sort_by_src_length()
    found, *_ = search(model, batch, cap, beam, beam_alpha=1.0)
    sentences = vocabulary.arrays_to_sentences(found[back], cut_at_eos=True, skip_pad=True)
    return [[piece for piece in sentence if piece != SPECIAL["eos"]] for sentence in sentences]
