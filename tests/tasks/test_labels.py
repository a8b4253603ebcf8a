"""What each class counts: scikit-learn's balanced weights, or those given; another label is named."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from kotya.errors import KotyaError
from kotya.tasks.labels import Example, class_weights

LABELS = ["bad", "fair", "good"]
GIVEN = ["good"] * 7 + ["bad"] * 2 + ["fair"]
EXAMPLES = [Example(f"train:{line}", label, ("film",)) for line, label in enumerate(GIVEN, start=1)]


def test_balanced_weights_are_scikit_learn_s() -> None:
    expected = compute_class_weight("balanced", classes=np.array(LABELS), y=GIVEN)
    assert class_weights("balanced", EXAMPLES, LABELS) == pytest.approx(expected.tolist())


def test_given_weights_leave_the_others_at_one() -> None:
    assert class_weights({"good": 0.5}, EXAMPLES, LABELS) == [1.0, 1.0, 0.5]
    assert class_weights(None, EXAMPLES, LABELS) is None
    with pytest.raises(KotyaError, match=r"no label 'nice'; there are bad, fair, good"):
        class_weights({"nice": 2.0}, EXAMPLES, LABELS)
