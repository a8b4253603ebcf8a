"""How good translations are: BLEU (Papineni et al. 2002) and chrF (Popović 2015), by sacreBLEU, with signatures."""

from collections.abc import Sequence
from dataclasses import dataclass

from kotya.errors import KotyaError


@dataclass(frozen=True)
class Score:
    """A metric of a whole corpus, from 0 to 100, and the signature that says exactly how it was computed."""

    name: str
    value: float
    signature: str


def translation_scores(hypotheses: Sequence[str], references: Sequence[str]) -> list[Score]:
    """BLEU (13a, cased) and chrF2 of a corpus, one reference a line. Raises KotyaError on unequal counts."""
    if len(hypotheses) != len(references):
        raise KotyaError(f"{len(hypotheses):,} translations but {len(references):,} references")
    from sacrebleu.metrics import BLEU, CHRF

    scores = []
    for name, metric in (("BLEU", BLEU()), ("chrF", CHRF())):
        value = metric.corpus_score(list(hypotheses), [list(references)]).score
        scores.append(Score(name, value, str(metric.get_signature())))
    return scores
