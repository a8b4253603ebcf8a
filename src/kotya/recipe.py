"""The recipe: one YAML file that says all of a run, typed; the tree of the parts' own configs.

`task` says which recipe it is; each stands beside its task. A typo is an error that names the file, the line, the wrong
key and the nearest right one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

import yaml
from pydantic import TypeAdapter, ValidationError

from kotya.config import explain
from kotya.errors import KotyaError
from kotya.tasks.classification import ClassificationRecipe
from kotya.tasks.language_model import LanguageModelRecipe
from kotya.tasks.masked_lm import MaskedLMRecipe
from kotya.tasks.relevance import RelevanceRecipe
from kotya.tasks.settings import SECTIONS, TaskRecipe
from kotya.tasks.tagging import TaggingRecipe
from kotya.tasks.translation_recipe import TranslationRecipe

RECIPES: dict[str, type[TaskRecipe]] = {
    "translation": TranslationRecipe,
    "masked_lm": MaskedLMRecipe,
    "language_model": LanguageModelRecipe,
    "classification": ClassificationRecipe,
    "relevance": RelevanceRecipe,
    "tagging": TaggingRecipe,
}
"""Every task's own recipe, by what stands in `task`."""


def read(path: Path, overrides: Sequence[str] = ()) -> TaskRecipe:
    """A recipe from its file, with `section.key=value` put over it. Raises KotyaError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KotyaError(f"{path}: there is no such recipe") from None
    except (IsADirectoryError, UnicodeDecodeError, PermissionError) as error:
        raise KotyaError(f"{path}: not a readable text file ({error})") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise KotyaError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict) or root is None:
        raise KotyaError(f"{path}: a recipe has sections ({', '.join(SECTIONS)})")
    _check_no_key_twice(root, path)
    for override in overrides:
        put(content, override)
    return parse(content, str(path), root)


def _check_no_key_twice(node: yaml.Node, path: Path) -> None:
    """YAML's reader would take the last one without a word."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise KotyaError(f"{path}:{key.start_mark.line + 1}: {key.value!r} stands there twice")
            seen.add(str(key.value))
            _check_no_key_twice(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            _check_no_key_twice(one, path)


def parse(content: dict[Any, Any], name: str, root: yaml.Node | None = None) -> TaskRecipe:
    """A recipe from plain values; errors name `name`, and the line where a YAML tree is given."""
    task = content.get("task")
    if not isinstance(task, str) or task not in RECIPES:
        line = _line(root, ("task",))
        where, known = f"{name}:{line}" if line else name, ", ".join(RECIPES)
        if task is None:
            raise KotyaError(f"{where}: the key 'task' is missing; there are {known}")
        raise KotyaError(f"{where}: task: there is no {task!r}; there are {known}")
    recipe = RECIPES[task]
    try:
        return recipe.model_validate(content)
    except ValidationError as error:
        place, message = explain(error, [recipe])
        line = _line(root, place)
        where = f"{name}:{line}" if line else name
        raise KotyaError(f"{where}: {message}") from None


def _line(node: yaml.Node | None, place: tuple[Any, ...]) -> int | None:
    """The line of a key, or of the nearest section around it."""
    line = None
    for part in place:
        if isinstance(node, yaml.MappingNode):
            if isinstance(part, int):
                continue  # a single corpus stands for a list of one
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def put(content: dict[str, Any], override: str) -> None:
    """Set `a.b.c=value` in plain values; the value is YAML."""
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise KotyaError(f"{override!r}: what is set over a recipe is written section.key=value")
    *sections, last = key.split(".")
    for section in sections:
        inner = content.setdefault(section, {})
        if isinstance(inner, str) and section == "model":
            inner = content[section] = {"preset": inner}
        if not isinstance(inner, dict):
            raise KotyaError(f"{override!r}: {section} is not a section with keys")
        content = inner
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise KotyaError(f"{override!r}: {value!r} is not a YAML value") from None


def schema() -> dict[str, Any]:
    """The JSON schema of a recipe, so that editors complete it."""
    recipes: Any = Union[tuple(RECIPES.values())]  # noqa: UP007
    return TypeAdapter(recipes).json_schema()
