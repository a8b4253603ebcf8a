"""The settings of search, the `search` section of a recipe and the options of `kotya translate`."""

from typing import Annotated, Literal

from pydantic import Field

from kotya.config import Config
from kotya.search.hypothesis import SearchLine
from kotya.search.length import Average, LengthPenalty, NoPenalty, Wu
from kotya.search.stopping import Exact, FirstBeam, FullBeam, StopRule


class SearchConfig(Config):
    """How an output is looked for."""

    beam: Annotated[int, Field(ge=1)] = 5
    """Hypotheses kept open; 1 is greedy search."""
    nbest: Annotated[int, Field(ge=1)] = 1
    """Outputs a line, at most the beam (or the number of samples)."""
    normalization: Literal["average", "wu", "none"] = "average"
    """The length penalty: n^α, Wu et al.'s ((5+n)/6)^α, or none."""
    length_penalty: Annotated[float, Field(ge=0)] = 1.0
    """α of the normalisation."""
    coverage_penalty: Annotated[float, Field(ge=0)] = 0.0
    """β of Wu et al. 2016: how much a source position that got little attention costs."""
    stop: Literal["exact", "full-beam", "first-beam"] = "full-beam"
    """When a line is over. `exact`: no open hypothesis can still win. `first-beam`: as many as the beam have ended.
    `full-beam`: as many have ended, and the best open one beats none of them as it stands (`transformers`' rule).
    Measured on Multi30k: 40.43 BLEU, 40.31 and 40.43, at 94, 142 and 139 sentences/s."""
    max_length_ratio: Annotated[float, Field(ge=0)] = 2.0
    """a of the length cap a·source + b of every line, in pieces, the end counted."""
    max_length_extra: Annotated[int, Field(ge=1)] = 20
    """b of the length cap."""

    def cap(self, line: SearchLine) -> int:
        """The most pieces of its output, prefix and end included. Nothing comes of nothing."""
        if line.cap is not None:
            return line.cap
        return int(self.max_length_ratio * len(line.source)) + self.max_length_extra if line.source else 1

    def penalty(self) -> LengthPenalty:
        if self.normalization == "none":
            return NoPenalty()
        return (Wu if self.normalization == "wu" else Average)(self.length_penalty)

    def stop_rule(self) -> StopRule:
        if self.stop == "exact":
            return Exact(self.penalty(), self.nbest)
        return FirstBeam(self.beam) if self.stop == "first-beam" else FullBeam(self.penalty(), self.beam)


class SamplingConfig(Config):
    """How outputs are drawn from p(y|x) instead of searched for."""

    samples: Annotated[int, Field(ge=1)] = 1
    """Draws a line."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Logits are divided by it: below 1 sharper, above 1 flatter."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Only the k likeliest pieces (Fan et al. 2018); 0 is all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the likeliest pieces that together have this probability (Holtzman et al. 2020)."""
    seed: int = 1
