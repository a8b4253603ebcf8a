"""Which recipes make a ladder, and what others published for the same rung.

The published figures are outputs stored in the notebooks of github.com/bentrevett/pytorch-seq2seq (MIT), read at commit
b3cd54c of 2024-01-20.
"""

from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = "https://github.com/bentrevett/pytorch-seq2seq"
COMMIT = "b3cd54c72cd6e4e63f672d334c795b4fe744ef92"


@dataclass(frozen=True)
class Mark:
    """A published BLEU."""

    bleu: float
    what: str
    notebook: str
    """Its path in the repository begins so."""


@dataclass(frozen=True)
class Ladder:
    """Recipes of one corpus, lowest rung first."""

    corpus: str
    """Its folder below recipes/ and below the runs."""
    title: str
    rungs: tuple[str, ...]
    page: Path
    marks: dict[str, tuple[Mark, ...]] = field(default_factory=dict)

    def recipe(self, rung: str) -> Path:
        """Where the recipe of a rung is."""
        return Path("recipes") / self.corpus / f"{rung}.yaml"


MULTI30K = Ladder(
    corpus="multi30k",
    title="The ladder on Multi30k: German → English image captions",
    rungs=("rnn", "bahdanau", "luong-dot", "luong-bilinear", "luong-mlp", "cnn", "transformer"),
    page=Path("docs/results/ladder.md"),
    marks={
        "rnn": (Mark(13.76, "LSTM", "1 - "), Mark(20.61, "GRU", "2 - ")),
        "bahdanau": (Mark(28.30, "attention", "3 - "),),
        "cnn": (Mark(34.14, "CNN", "legacy/5 - "),),
        "transformer": (Mark(36.52, "Transformer", "legacy/6 - "),),
    },
)
RUS_ENG = Ladder(
    corpus="rus-eng",
    title="The ladder on short Russian sentences: Russian → English",
    rungs=("rnn", "bahdanau", "transformer"),
    page=Path("docs/results/rus-eng.md"),
)
LADDERS = {ladder.corpus: ladder for ladder in (MULTI30K, RUS_ENG)}
