"""The picture of position encodings shows the very table, and waves that are its columns."""

from pathlib import Path

import numpy as np
import pytest

from caught import Catch
from kotya.attention.positions import sinusoidal
from kotya.pictures import positions


@pytest.mark.parametrize(("length", "size"), [(60, 128), (2, 4), (500, 6)])
def test_the_table_and_its_columns_are_drawn(catch: Catch, length: int, size: int) -> None:
    figures = catch(positions)
    table = sinusoidal(length, size, "interleaved").numpy()
    positions.draw_positions(table, Path("p.png"))
    [figure] = figures
    picture, _, waves = figure.axes
    [image] = picture.images
    np.testing.assert_array_equal(image.get_array(), table)
    assert image.get_clim() == (-1, 1)
    drawn = {line.get_label(): line for line in waves.lines if line.get_label().startswith("feature")}
    assert len(drawn) >= 2
    for name, line in drawn.items():
        np.testing.assert_array_equal(line.get_ydata(), table[:, int(name.split()[1])])
    assert waves.get_xlim() == (0, length - 1)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    positions.draw_positions(sinusoidal(10, 8, "halves").numpy(), path)
    assert path.stat().st_size > 5000
