"""JoeyNMT's own search over an untrained RNN of its recipe; batches of 64 in the order of the file.

.benchmarks/venv/bin/python benchmarks/search_joeynmt.py --model gru-mlp --beam 5
"""

from types import SimpleNamespace

import torch
from joeynmt.batch import Batch
from joeynmt.model import build_model
from joeynmt.search import search as joeynmt_search
from joeynmt.vocabulary import Vocabulary
from torch import nn

import architectures
import corpus
import searching

BATCH = 64
SPECIAL = {"unk": "<unk>", "pad": "<pad>", "bos": "<s>", "eos": "</s>"}


def main() -> None:
    arguments = searching.arguments(__doc__)
    torch.manual_seed(1)
    roles = {f"{role}_token": piece for role, piece in SPECIAL.items()}
    roles |= {f"{role}_id": number for number, role in enumerate(SPECIAL)}
    pieces = [*SPECIAL.values(), *(f"p{number}" for number in range(len(SPECIAL), corpus.SIZE))]
    vocabulary = Vocabulary(pieces, SimpleNamespace(**roles, lang_tags=[], sep_token=None, sep_id=None))
    model = build_model(architectures.joeynmt_model(arguments.model), vocabulary, vocabulary).eval()

    def search(sources: list[list[int]]) -> list[int]:
        return [
            length
            for first in range(0, len(sources), BATCH)
            for length in search_batch(sources[first : first + BATCH])
        ]

    def search_batch(sources: list[list[int]]) -> list[int]:
        rows = [torch.tensor([*source, corpus.END]) for source in sources]
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
        batch.sort_by_src_length()
        limit = {"max_output_length": searching.PIECES}
        found, *_ = joeynmt_search(model, batch, beam_size=arguments.beam, beam_alpha=1.0, **limit)
        return [int((output > corpus.END).sum()) for output in found]

    searching.measure("JoeyNMT", search)


if __name__ == "__main__":
    main()
