"""The fixture that catches figures."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caught import Catch


@pytest.fixture
def catch(monkeypatch: pytest.MonkeyPatch) -> Catch:
    def catch(module: ModuleType) -> list[Any]:
        figures: list[Any] = []

        def keep(figure: Any, path: Path) -> None:
            figure.canvas.draw()
            figures.append(figure)

        monkeypatch.setattr(module, "save", keep)
        return figures

    return catch
