"""Scores by name: those of `scores.py`, or a person's own module by its dotted path, which runs only if allowed.

In general any function of a query and a key will do. A person's own is an `nn.Module` built as
`MyScore(query_size, key_size)` with the two methods of `Score`; what it learns must be parameters.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import nn

from kotya.attention.scores import BilinearScore, DotScore, MLPScore
from kotya.errors import KotyaError

NAMES = ("dot", "scaled-dot", "bilinear", "mlp")
_allowed: ContextVar[bool] = ContextVar("own_code_allowed", default=False)


@contextmanager
def own_code(allow: bool) -> Iterator[None]:
    """Let models that are built meanwhile load code that their recipe names, or not."""
    token = _allowed.set(allow)
    try:
        yield
    finally:
        _allowed.reset(token)


def own_code_allowed() -> bool:
    """Whether it is allowed here already."""
    return _allowed.get()


def _known(name: str) -> str:
    if name not in NAMES and "." not in name:
        raise ValueError(
            f"there is no score {name!r}; there are {', '.join(NAMES)}, or the dotted path of your own"
        )
    return name


ScoreName = Annotated[str, AfterValidator(_known)]


def build_score(name: str, query_size: int, key_size: int) -> nn.Module:
    """A score. Raises KotyaError where it does not fit the sizes, or is a person's own and not as it must be."""
    if name in ("dot", "scaled-dot"):
        if query_size != key_size:
            raise KotyaError(
                f"score: {name} needs queries ({query_size}) and keys ({key_size}) of one size; "
                "score: bilinear has a matrix between them"
            )
        return DotScore(key_size, scaled=name == "scaled-dot")
    if name == "bilinear":
        return BilinearScore(query_size, key_size)
    if name == "mlp":
        return MLPScore(query_size, key_size)
    if not _allowed.get():
        raise KotyaError(f"score: {name} is code of your own; it is loaded only with --allow-code")
    made = _import(name)
    _check(name, made)
    module: nn.Module = made(query_size, key_size)
    return module


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise KotyaError(f"score: {path}: {module} cannot be imported ({error})") from None
    if not hasattr(found, name):
        raise KotyaError(f"score: {path}: {module} has no {name}")
    return getattr(found, name)


def _check(path: str, made: Any) -> None:
    """Try a small one: whatever is missing of the contract is said before anything is trained."""
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise KotyaError(f"score: {path} must be a class that derives from torch.nn.Module")
    for method, form in (("prepare", "prepare(keys)"), ("score", "score(query, prepared)")):
        if not callable(getattr(made, method, None)):
            raise KotyaError(f"score: {path} has no method {form}")
    rows, source, queries, query_size, key_size = 2, 5, 3, 4, 6
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        small = _attempt(path, "__init__(query_size, key_size)", lambda: made(query_size, key_size))
        keys, query = torch.randn(rows, source, key_size), torch.randn(rows, queries, query_size)
        prepared = _attempt(path, "prepare(keys)", lambda: small.prepare(keys))
        _expect(path, "prepare(keys)", prepared, (rows, source, None), "[rows, source, anything]")
        scores = _attempt(path, "score(query, prepared)", lambda: small.score(query, prepared))
        _expect(path, "score(query, prepared)", scores, (rows, queries, source), "[rows, queries, source]")


def _attempt(path: str, what: str, call: Any) -> Any:
    try:
        return call()
    except Exception as error:  # whatever a person's own code raises is theirs to hear of
        raise KotyaError(f"score: {path}: {what} failed with {type(error).__name__}: {error}") from error


def _expect(path: str, what: str, value: Any, shape: tuple[int | None, ...], form: str) -> None:
    fits = (
        isinstance(value, torch.Tensor)
        and value.ndim == len(shape)
        and all(want in (None, have) for want, have in zip(shape, value.shape, strict=True))
    )
    if not fits:
        got = list(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise KotyaError(f"score: {path}: {what} must give a tensor {form}, here [{wanted}]; it gave {got}")
