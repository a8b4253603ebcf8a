"""How good translations are: BLEU (Papineni et al. 2002) and chrF (Popović 2015), by sacreBLEU, with signatures.

How good word alignments are (Och and Ney 2003):

    precision = |A∩P| / |A|,  recall = |A∩S| / |S|,  AER = 1 - (|A∩S| + |A∩P|) / (|A| + |S|)
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Interval:
    """A metric, and between what it would be on 95 of 100 test sets like this one."""

    value: float
    low: float
    high: float


def bleu_interval(
    hypotheses: Sequence[str], references: Sequence[str], *, resamples: int = 300, seed: int = 1
) -> Interval:
    """BLEU as above, with a bootstrap interval over lines drawn again with replacement (Koehn 2004).

    Raises KotyaError on unequal counts.
    """
    if len(hypotheses) != len(references):
        raise KotyaError(f"{len(hypotheses):,} translations but {len(references):,} references")
    from sacrebleu.metrics import BLEU

    metric = BLEU(effective_order=True)  # of one line; corpora are scored without, as above
    lines = [metric.sentence_score(one, [two]) for one, two in zip(hypotheses, references, strict=True)]
    counts = np.array([[*line.counts, *line.totals, line.sys_len, line.ref_len] for line in lines])

    def bleu(rows: NDArray[np.int64]) -> float:
        total = counts[rows].sum(0).tolist()
        score = BLEU.compute_bleu(total[:4], total[4:8], total[8], total[9], smooth_method="exp")
        return float(score.score)

    generator = np.random.default_rng(seed)
    drawn = [bleu(generator.integers(len(lines), size=len(lines))) for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    return Interval(bleu(np.arange(len(lines))), low, high)


Links = AbstractSet[tuple[int, int]]


@dataclass(frozen=True)
class AlignmentScores:
    """Of all links of a corpus together, each from 0 to 100; AER is an error, the lower the better."""

    aer: float
    precision: float
    recall: float


def alignment_scores(
    found: Sequence[Links], sure: Sequence[Links], possible: Sequence[Links]
) -> AlignmentScores:
    """Alignments against a gold set, sentence by sentence; a sure link counts as possible too.

    Raises KotyaError on unequal counts, and where the gold set has no link at all.
    """
    if not len(found) == len(sure) == len(possible):
        raise KotyaError(
            f"{len(found):,} alignments but {len(sure):,} lines of sure and {len(possible):,} of possible links"
        )
    all_found, all_sure = (sum(map(len, links)) for links in (found, sure))
    if all_sure == 0:
        raise KotyaError("the gold alignments have no sure link: there is nothing to find")
    hits = sum(len(a & s) for a, s in zip(found, sure, strict=True))
    allowed = sum(len(a & (p | s)) for a, s, p in zip(found, sure, possible, strict=True))
    return AlignmentScores(
        aer=100 * (1 - (hits + allowed) / (all_found + all_sure)),
        precision=100 * allowed / all_found if all_found else 0.0,
        recall=100 * hits / all_sure,
    )
