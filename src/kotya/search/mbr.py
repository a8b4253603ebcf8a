"""Minimum Bayes risk (Kumar and Byrne 2004; by samples, Eikema and Aziz 2020): argmax_y Σ_y' u(y, y'), y, y' samples.

The translation that agrees best with all that the model would say, by a metric u, instead of the likeliest one.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, get_args

Utility = Callable[[str, str], float]
"""(hypothesis, reference) → how good, higher is better."""
UtilityName = Literal["chrf", "bleu"]
UTILITIES: tuple[UtilityName, ...] = get_args(UtilityName)


def sentence_utility(name: UtilityName) -> Utility:
    """sacreBLEU's sentence chrF, or its sentence BLEU with effective order."""
    from sacrebleu.metrics import BLEU, CHRF

    metric = CHRF() if name == "chrf" else BLEU(effective_order=True)

    def utility(hypothesis: str, reference: str) -> float:
        return float(metric.sentence_score(hypothesis, [reference]).score)

    return utility


def expected_utilities(samples: Sequence[str], utility: Utility) -> list[float]:
    """The mean utility of each sample against all of them. Equal samples are measured once."""
    counts = Counter(samples)
    expected = {
        hypothesis: sum(count * utility(hypothesis, reference) for reference, count in counts.items())
        / len(samples)
        for hypothesis in counts
    }
    return [expected[sample] for sample in samples]
