"""What `kotya.load` returns for a language model: texts that go on with a prompt, drawn or searched for.

Decoding is cached, as a translator's: to search a prompt is what every output must begin with.
"""

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kotya.attention.packed import Packing
from kotya.attention.recorder import record_attention
from kotya.errors import KotyaError
from kotya.models.lm import LanguageModel
from kotya.search.batch import Batch
from kotya.search.beam import Beam
from kotya.search.config import SamplingConfig, SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.greedy import Greedy
from kotya.search.hypothesis import SearchLine
from kotya.search.sampling import Sampling
from kotya.search.schedule import search_lines
from kotya.tasks.language_model import LanguageModelFolder, roles_of
from kotya.text.vocabulary import Vocabulary

_ROWS = 64


@dataclass(frozen=True)
class Continuation:
    """A text that begins with the prompt."""

    text: str
    log_probability: float
    """Σ log p of all its pieces, the prompt's and the end's counted, in nats; NaN from greedy search."""
    finished: bool
    """Whether it ended by itself, before the most pieces it may have."""


class Generator:
    """A model with its vocabulary."""

    def __init__(self, model: LanguageModel, vocabulary: Vocabulary, config: LanguageModelFolder) -> None:
        self.model, self.vocabulary, self.config = model, vocabulary, config
        self.ensemble, self.roles = Ensemble([model], vocabulary.end), roles_of(vocabulary)

    def generate(
        self,
        prompt: str = "",
        *,
        length: int | None = None,
        sampling: SamplingConfig | None = None,
        beam: int = 1,
    ) -> str:
        """The best continuation of one prompt; see `continuations`."""
        return next(self.continuations([prompt], length=length, sampling=sampling, beam=beam))[0].text

    def continuations(
        self,
        prompts: Iterable[str],
        *,
        length: int | None = None,
        sampling: SamplingConfig | None = None,
        beam: int = 1,
        workers: int = 1,
    ) -> Iterator[list[Continuation]]:
        """For every prompt texts of at most `length` pieces more: as many as are drawn, or the best one searched for.

        Without a length 100, or as many as the model still reads behind the prompt where that is less.
        Raises KotyaError where a prompt leaves no room within what the model reads.
        """
        config = SearchConfig(beam=beam, normalization="none")

        def make() -> Batch:
            if sampling is not None:
                return Sampling(self.ensemble, self.roles, config, sampling)
            if beam == 1:
                return Greedy(self.ensemble, self.roles, config, scores=False)
            return Beam(self.ensemble, self.roles, config)

        rows = max(1, _ROWS // max(beam, sampling.samples if sampling is not None else 1))
        for found in search_lines(make, self._lines(prompts, length), rows=rows, workers=workers):
            yield [
                Continuation(self.vocabulary.decode(one.tokens), one.log_probability, one.finished)
                for one in found
            ]

    def _lines(self, prompts: Iterable[str], length: int | None) -> Iterator[SearchLine]:
        for number, prompt in enumerate(prompts):
            ids = self.vocabulary.encode(prompt)
            more = length or min(100, max(1, self.reach - len(ids) - 1))
            self._check(
                len(ids) + more + 1, f"the prompt of line {number + 1}, {len(ids)} pieces, and {more} more"
            )
            # the beginning and the prompt stand as its source, the end behind all that is added
            yield SearchLine([self.roles.begin, *ids], ids, number, len(ids) + more + 1)

    @property
    def reach(self) -> int:
        """How many pieces the model reads, the beginning included."""
        config = self.config.model
        return config.max_length if config.positions == "learned" else sys.maxsize

    def _check(self, pieces: int, what: str) -> None:
        if pieces > self.reach:
            raise KotyaError(f"{what} are more than the {self.reach} that the model reads")

    @torch.inference_mode()
    def attention(self, text: str) -> tuple[list[str], list[Float[Tensor, "heads pieces pieces"]]]:
        """The beginning and the pieces of a text, and each layer's weights. Raises KotyaError as `score` does."""
        ids = [self.vocabulary.begin, *self.vocabulary.encode(text)]
        self._check(len(ids), f"{len(ids)} pieces")
        device = next(self.model.parameters()).device
        with record_attention(self.model.decoder) as maps:
            self.model(torch.tensor(ids, device=device), Packing.of([len(ids)], device))
        return self.vocabulary.pieces(ids), [calls[0][0].float().cpu() for calls in maps.values()]

    @torch.inference_mode()
    def score(self, text: str) -> float:
        """Σ log p of a text and its end, in nats. Raises KotyaError where it is longer than the model reads."""
        ids = self.vocabulary.encode(text)
        self._check(len(ids) + 1, f"{len(ids)} pieces")
        device = next(self.model.parameters()).device
        inputs = torch.tensor([self.vocabulary.begin, *ids], device=device)
        outputs = torch.tensor([*ids, self.vocabulary.end], device=device)
        hidden = self.model(inputs, Packing.of([len(inputs)], device))
        total = -float(self.model.loss(hidden, outputs)[1])
        if math.isnan(total):
            raise self.ensemble.no_number("the text")
        return total
