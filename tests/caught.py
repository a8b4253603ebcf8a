"""Figures caught before they are written, so that tests can ask what is drawn."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

Catch = Callable[[ModuleType], list[Any]]
"""`figures = catch(module)`: a list that fills with what the module would have saved."""
