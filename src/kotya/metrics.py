"""How good answers are, from 0 to 100 unless said otherwise.

Translations: BLEU (Papineni et al. 2002) and chrF (Popović 2015), by sacreBLEU, with signatures. Labels: accuracy, the
mean of the classes' F1, and Matthews' correlation; numbers: Pearson's and Spearman's correlation, by scipy. Entities:
precision, recall and F1 of exact matches, by nervaluate. Rankings: MAP, MRR@10 and NDCG@10, by ir-measures.

How good word alignments are (Och and Ney 2003):

    precision = |A∩P| / |A|,  recall = |A∩S| / |S|,  AER = 1 - (|A∩S| + |A∩P|) / (|A| + |S|)
"""

from collections.abc import Mapping, Sequence
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


def label_scores(found: Sequence[int], gold: Sequence[int]) -> dict[str, float]:
    """Of classes by number. Matthews' correlation of many classes is Gorodkin's (2004), from -100 to 100.

    A class counts in the mean of F1 if it stands on either side.
    """
    one, two = np.asarray(found), np.asarray(gold)
    classes = np.union1d(one, two)
    both = np.array([((one == c) & (two == c)).sum() for c in classes], float)
    first, second = (np.array([(side == c).sum() for c in classes], float) for side in (one, two))
    total, hits = len(one), both.sum()
    spread = [total**2 - (counts**2).sum() for counts in (first, second)]
    matthews = (hits * total - first @ second) / np.sqrt(spread[0] * spread[1]) if all(spread) else 0.0
    return {
        "accuracy": 100 * float(hits) / total,
        "macro F1": 100 * float(np.mean(2 * both / (first + second))),
        "Matthews": 100 * float(matthews),
    }


def correlations(found: Sequence[float], gold: Sequence[float]) -> dict[str, float]:
    """Of numbers, from -100 to 100; 0 where either side never varies."""
    from scipy.stats import pearsonr, spearmanr

    if min(np.ptp(found), np.ptp(gold)) == 0:
        return {"Pearson": 0.0, "Spearman": 0.0}
    return {
        "Pearson": 100 * float(pearsonr(found, gold).statistic),
        "Spearman": 100 * float(spearmanr(found, gold).statistic),
    }


Span = tuple[int, int, str]
"""An entity: its first word, the word after it, its type."""


def entity_scores(found: Sequence[Sequence[Span]], gold: Sequence[Sequence[Span]]) -> dict[str, float]:
    """Of the entities of sentences, all types together: right is what has the same words and the same type."""
    from nervaluate import Evaluator

    labels = sorted({label for side in (found, gold) for sentence in side for _, _, label in sentence})
    if not labels:
        return dict.fromkeys(("F1", "precision", "recall"), 0.0)
    spans = [
        [
            [{"label": label, "start": start, "end": stop - 1} for start, stop, label in sentence]
            for sentence in side
        ]
        for side in (gold, found)
    ]
    strict = Evaluator(*spans, labels, loader="dict").evaluate()["overall"]["strict"]
    values = {"F1": strict.f1, "precision": strict.precision, "recall": strict.recall}
    return {name: 100 * float(value) for name, value in values.items()}


def ranking_scores(
    found: Mapping[str, Mapping[str, float]], gold: Mapping[str, Mapping[str, int]]
) -> dict[str, float]:
    """Of scores and judgements, for every query a number a document.

    Means over the queries that have a relevant document; the others say nothing of a ranking. Of equal scores the
    greater name of a document comes first, as in trec_eval.
    """
    import ir_measures
    from ir_measures import AP, RR, nDCG

    judged = {query: rows for query, rows in gold.items() if any(value > 0 for value in rows.values())}
    measures = {"MAP": AP, "MRR@10": RR @ 10, "NDCG@10": nDCG @ 10}
    # as ranks: providers of the measures break ties in different ways, and round scores to float32
    scores = {
        query: {
            name: float(rank)
            for rank, name in enumerate(sorted(found[query], key=lambda one: (found[query][one], one)))
        }
        for query in judged
    }
    values = ir_measures.calc_aggregate(list(measures.values()), judged, scores)
    return {name: 100 * float(values[measure]) for name, measure in measures.items()}
