"""Shapes and types are checked at call time, everywhere but in cli/, whose parser brings types of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from beartype import BeartypeConf
from beartype.claw import beartype_packages
from jaxtyping import config, install_import_hook

CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
WITH_SHAPES = ["adapt", "attention", "dropout", "inference", "models", "search", "tasks"]
WITHOUT = ["files", "folder", "interop", "metrics", "pictures", "recipe", "text", "training"]
"""Few tensors and many small functions, whose calls cost less than a check of shapes: types alone are checked."""


def check() -> None:
    """Whatever of kotya is imported from now on."""
    install_import_hook([f"kotya.{name}" for name in WITH_SHAPES], CHECKER)
    beartype_packages(
        [f"kotya.{name}" for name in WITHOUT],
        conf=BeartypeConf(is_pep484_tower=True, claw_is_pep526=False),
    )


@contextmanager
def unchecked() -> Iterator[None]:
    """For whole trainings, of which other tests check every call; checks take two thirds of the time of tiny models."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
