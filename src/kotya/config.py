"""The base of every part's config: typed, frozen, and strict about keys, so that a typo is an error."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

DropoutRate = Annotated[float, Field(ge=0, lt=1)]
"""How likely an element is zeroed in training."""


class Config(BaseModel):
    """A part's settings. The class stands beside the part and builds it; field docstrings become the schema's help."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


def wrong(place: tuple[int | str, ...], message: str, value: Any) -> ValidationError:
    """What a validator of a section raises for one key of it, so that the error names that key and its line."""
    kind = PydanticCustomError("wrong", "{message}", {"message": message})
    return ValidationError.from_exception_data(
        "config", [InitErrorDetails(type=kind, loc=place, input=value)]
    )


def with_presets(presets: Mapping[str, Config], kind: str) -> Callable[[Any], Any]:
    """What comes before the validation of a model section, so that it may name a preset.

    `transformer-small`, or `{preset: bahdanau, decoder: {size: 256}}`: its settings under the ones given. Without a
    preset and without a kind it is of `kind`.
    """

    def resolved(value: Any) -> Any:
        name, given = (value, {}) if isinstance(value, str) else (None, value)
        if isinstance(given, dict) and "preset" in given:
            given = dict(given)
            name = given.pop("preset")
        if name is None:
            return {"kind": kind, **given} if isinstance(given, dict) else given
        if not isinstance(name, str) or name not in presets:
            raise wrong(("preset",), f"there is no preset {name!r}; there are {', '.join(presets)}", name)
        settings = presets[name].model_dump()
        wanted = given.get("kind", settings["kind"])
        if wanted != settings["kind"]:
            message = f"the preset {name!r} is of kind {settings['kind']!r}, not {wanted!r}; leave one of the two out"
            raise wrong(("kind",), message, wanted)
        return _over(settings, given)

    return resolved


def _over(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Settings with those given put over them, part by part; a part of another kind takes nothing over."""
    merged = settings | given
    for key, part in given.items():
        before = settings.get(key)
        if (
            isinstance(part, dict)
            and isinstance(before, dict)
            and part.get("kind", before.get("kind")) == before.get("kind")
        ):
            merged[key] = _over(before, part)
    return merged


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that are not the same, by dotted key, with both values; None where one has no such setting."""
    mine, theirs = (flat(config.model_dump(mode="json")) for config in (one, other))
    keys = [*mine, *(key for key in theirs if key not in mine)]
    return {key: (mine.get(key), theirs.get(key)) for key in keys if mine.get(key) != theirs.get(key)}


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A tree of settings as dotted keys; a section of a list goes by its place."""
    if isinstance(tree, list) and any(isinstance(one, dict) for one in tree):
        tree = dict(enumerate(tree))
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value
        for name, sub in tree.items()
        for key, value in flat(sub, f"{prefix}.{name}".lstrip(".")).items()
    }
