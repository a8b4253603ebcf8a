"""The base of every part's config: typed, frozen, and strict about keys, so that a typo is an error."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_args

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


def explain(error: ValidationError, sections: Sequence[type[Config]]) -> tuple[tuple[Any, ...], str]:
    """Where the first mistake is in what one of these classes was to take, and a line that says key and mistake."""
    # a mistyped key may also leave its right form missing: the typo is what the person wants to hear of
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place, keys = _place(first, sections)
    return place, _message(first, place, keys)


def _message(error: Any, place: tuple[Any, ...], keys: Sequence[str]) -> str:
    dotted = ".".join(str(part) for part in place)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), keys, n=1)
        hint = f"the nearest is {near[0]!r}" if near else f"there are {', '.join(keys)}"
        return f"there is no key {dotted!r}; {hint}"
    if error["type"] == "union_tag_invalid":
        tag, known = error["ctx"]["tag"], error["ctx"]["expected_tags"].replace("'", "")
        return f"{dotted}: there is no {tag!r}; there are {known}"
    if error["type"] == "union_tag_not_found":
        return f"the key '{'.'.join(map(str, (*place, 'kind')))}' is missing"
    if error["type"] == "missing":
        return f"the key {dotted!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if message.startswith("Input ") and isinstance(error["input"], str | int | float):
        message = f"{error['input']!r} {message.removeprefix('Input ')}"
    return f"{dotted}{': ' if place else ''}{message[0].lower()}{message[1:]}"


_KEY_ERRORS = ("extra_forbidden", "invalid_key")
"""The errors of pydantic that are about the key itself."""


def _place(error: Any, sections: Sequence[type[Config]]) -> tuple[tuple[Any, ...], list[str]]:
    """Where an error is, and the keys that its section may have; without the steps that pydantic adds for itself.

    Those are validators, members of unions, and the kind of a section, which says which class the keys are of.
    """
    place: list[Any] = []
    *_, last = error["loc"] or (None,)
    for part in error["loc"]:
        fields = [one.model_fields[part].annotation for one in sections if part in one.model_fields]
        kinds = [one for one in sections if part in _kinds(one)]
        if kinds:  # of several that may stand here, before a key that another of them has by that name
            sections = kinds
        elif fields:
            place.append(part)
            sections = [one for field in fields for one in classes_of(field)]
        elif isinstance(part, int) or part == "preset" or (error["type"] in _KEY_ERRORS and part == last):
            place.append(part)
    if error["type"] == "union_tag_invalid":
        place.append("kind")
    keys = dict.fromkeys(key for section in sections for key in section.model_fields)
    return tuple(place), [*keys, "preset"] if place[:1] == ["model"] and len(place) == 2 else list(keys)


def _kinds(section: type[Config]) -> tuple[Any, ...]:
    """What a section may say in `kind`."""
    field = section.model_fields.get("kind")
    return get_args(field.annotation) if field else ()


def classes_of(annotation: Any) -> list[type[Config]]:
    """The config classes that stand in a type, however deep in unions and lists."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [one for argument in get_args(annotation) for one in classes_of(argument)]
