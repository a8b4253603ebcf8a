"""The pictures of what goes into an encoder and of a word in its contexts show the very numbers."""

from pathlib import Path

import numpy as np

from caught import Catch
from kotya.pictures import contexts, inputs


def test_every_part_and_their_sum_are_drawn(catch: Catch) -> None:
    figures = catch(inputs)
    draw = np.random.default_rng(1)
    parts = {name: draw.normal(size=(4, 40)) for name in ("token", "segment", "position")}
    inputs.draw_inputs(["[CLS]", "a", "b", "[SEP]"], [0, 0, 1, 1], parts, Path("i.png"))
    inputs.draw_inputs(["a"], [0], {"token": parts["token"][:1]}, Path("i.png"))
    whole, alone = figures
    drawn = [axis.images[0].get_array() for axis in whole.axes]
    for values, expected in zip(drawn, [*parts.values(), sum(parts.values())], strict=True):
        np.testing.assert_allclose(values, expected[:, : inputs.FEATURES].T)
    marks = [[one.get_text() for one in axis.get_xticklabels()] for axis in whole.axes]
    assert marks[1] == ["$E_{A}$", "$E_{A}$", "$E_{B}$", "$E_{B}$"]
    assert marks[2][3] == "$E_{3}$"
    assert len(alone.axes) == 1


def test_the_plane_keeps_distances_and_cosines_are_those_of_the_vectors(catch: Catch) -> None:
    draw = np.random.default_rng(2)
    flat = draw.normal(size=(4, 2)) @ draw.normal(size=(2, 9)) + 3.0
    points = contexts.plane(flat)
    unit = np.linalg.norm(flat, axis=1).mean()
    for i in range(4):
        for j in range(4):
            distance = np.linalg.norm(flat[i] - flat[j]) / unit
            np.testing.assert_allclose(np.linalg.norm(points[i] - points[j]), distance, atol=1e-9)
            cosine = flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j])
            np.testing.assert_allclose(contexts.cosines(flat)[i, j], cosine)
    assert points[0, 0] <= 0 <= points[0, 1]


def test_a_panel_a_layer_and_the_sentences_below(catch: Catch) -> None:
    figures = catch(contexts)
    vectors = np.random.default_rng(3).normal(size=(3, 2, 8))
    contexts.draw_contexts("bank", ["the bank", "a $bank"], vectors, Path("c.png"))
    [figure] = figures
    assert [axis.get_title() for axis in figure.axes[::2]] == ["embeddings", "layer 1", "layer 2"]
    numbers = [text.get_text() for text in figure.axes[3].texts]
    cosine = contexts.cosines(vectors[1])[0, 1]
    assert numbers == ["1.00", f"{cosine:.2f}", f"{cosine:.2f}", "1.00"]
    assert "the bank" in [text.get_text() for text in figure.texts]
