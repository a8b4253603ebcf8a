"""The recipe: one YAML file that says all of a run, typed; the tree of the parts' own configs.

A typo is an error that names the file, the line, the wrong key and the nearest right one. The settings of the loop are
here and not beside it, because the loop stands on a floor above.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from kotya.attention.reading import GuidedAlignmentConfig
from kotya.config import Config, wrong
from kotya.errors import KotyaError
from kotya.models.composed import PRESETS, ModelConfig
from kotya.search.config import SearchConfig
from kotya.tasks.translation import TranslationData
from kotya.text.vocabularies import VocabularyConfig

_Memory = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(Config):
    """How θ is learned."""

    updates: int | None = Field(None, ge=1)
    """Steps of the optimiser; this or `epochs`."""
    epochs: int | None = Field(None, ge=1)
    """Passes over the data."""
    minutes: float | None = Field(None, gt=0)
    """Stop after so long; never shapes the schedule."""
    tokens: int = Field(4096, ge=1)
    """A batch holds at most so many positions on either side, padding included."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients make one update."""
    learning_rate: float = Field(1e-3, gt=0)
    """The highest, reached at the end of the warm-up."""
    schedule: Literal["inverse-sqrt", "cosine", "linear", "constant"] = "inverse-sqrt"
    """After the warm-up: √(warmup/update) as Vaswani et al. 2017, or down to nothing at the last update."""
    warmup: int = Field(1000, ge=1)
    """Updates over which the learning rate rises from nothing."""
    betas: tuple[_Memory, _Memory] = (0.9, 0.98)
    """Adam's two memories."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's (Loshchilov and Hutter 2019), on matrices only."""
    clip: float = Field(1.0, gt=0)
    """The longest gradient, as a whole."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    r_drop: float = Field(0.0, ge=0)
    """α of R-Drop (Wu et al. 2021; 5 there); costs a second pass. 0 is none."""
    guided_alignment: GuidedAlignmentConfig | None = None
    """Teach a layer's attention the word alignments that `data.train` gives (Chen et al. 2016)."""
    precision: Literal["float32", "bf16"] = "bf16"
    """bf16 computes matrix products in bfloat16; weights and sums stay float32."""
    compile: bool = False
    """torch.compile the model, for a GPU. On a CPU the eager steps are faster (4,445 tokens/s against 2,561)."""
    evaluate_every: int = Field(500, ge=1)
    """Updates between evaluations on the dev set; each writes a checkpoint."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many evaluations without a better one."""
    average: int = Field(1, ge=1)
    """How many last checkpoints are averaged at the end; kept if better on dev than the best one."""
    seed: int = Field(1, ge=0, lt=1 << 32)
    tensorboard: bool = False
    """Also write TensorBoard's events (extra `tensorboard`)."""

    @model_validator(mode="after")
    def _has_one_end(self) -> "TrainingConfig":
        if self.updates is None and self.epochs is None:
            raise ValueError("when to stop is missing: `updates`, or `epochs`")
        if self.updates is not None and self.epochs is not None:
            raise wrong(("epochs",), "`updates` says already when to stop; give one of them", self.epochs)
        return self

    @model_validator(mode="after")
    def _attention_is_seen(self) -> "TrainingConfig":
        if self.compile and self.guided_alignment is not None:
            message = (
                "a compiled model hands over no attention weights; guided_alignment needs compile: false"
            )
            raise wrong(("compile",), message, self.compile)
        return self


def _preset(value: Any) -> Any:
    """`transformer-small`, or `{preset: bahdanau, decoder: {size: 256}}`: its settings under the ones given.

    Without a preset and without a kind it is a Transformer.
    """
    name, given = (value, {}) if isinstance(value, str) else (None, value)
    if isinstance(given, dict) and "preset" in given:
        given = dict(given)
        name = given.pop("preset")
    if name is None:
        return {"kind": "transformer", **given} if isinstance(given, dict) else given
    if not isinstance(name, str) or name not in PRESETS:
        raise wrong(("preset",), f"there is no preset {name!r}; there are {', '.join(PRESETS)}", name)
    preset = PRESETS[name]
    kind = given.get("kind", preset.kind)
    if kind != preset.kind:
        message = f"the preset {name!r} is of kind {preset.kind!r}, not {kind!r}; leave one of the two out"
        raise wrong(("kind",), message, kind)
    return _over(preset.model_dump(), given)


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


class Recipe(Config):
    """All of a run."""

    task: Literal["translation"]
    data: TranslationData
    vocabulary: VocabularyConfig = VocabularyConfig()
    model: Annotated[ModelConfig, BeforeValidator(_preset)]
    training: TrainingConfig
    search: SearchConfig = SearchConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Recipe":
        if self.search.nbest > self.search.beam:
            message = f"{self.search.nbest} outputs a line are more than the beam holds, {self.search.beam}"
            raise wrong(("search", "nbest"), message, self.search.nbest)
        if self.model.share == "all" and not self.vocabulary.shared:
            message = "all needs one vocabulary for both languages; with two, say `output` or `none`"
            raise wrong(("model", "share"), message, self.model.share)
        return self

    def data_root(self) -> Path:
        """The recipe's own root, else KOTYA_DATA, else `data`."""
        return self.data.root or Path(os.environ.get("KOTYA_DATA", "data"))

    def to_yaml(self) -> str:
        """The whole recipe, every setting written out: it rebuilds the run by itself."""
        content = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def read(path: Path, overrides: Sequence[str] = ()) -> Recipe:
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
        raise KotyaError(f"{path}: a recipe has sections ({', '.join(Recipe.model_fields)})")
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


def parse(content: dict[Any, Any], name: str, root: yaml.Node | None = None) -> Recipe:
    """A recipe from plain values; errors name `name`, and the line where a YAML tree is given."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        # a mistyped key may also leave its right form missing: the typo is what the person wants to hear of
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        place, keys = _place(first)
        line = _line(root, place)
        where = f"{name}:{line}" if line else name
        raise KotyaError(f"{where}: {_explain(first, place, keys)}") from None


def _explain(error: Any, place: tuple[Any, ...], keys: Sequence[str]) -> str:
    dotted = ".".join(str(part) for part in place)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), keys, n=1)
        hint = f"the nearest is {near[0]!r}" if near else f"there are {', '.join(keys)}"
        return f"there is no key {dotted!r}; {hint}"
    if error["type"] == "union_tag_invalid":
        tag, known = error["ctx"]["tag"], error["ctx"]["expected_tags"].replace("'", "")
        return f"{dotted}: there is no {tag!r}; there are {known}"
    if error["type"] == "union_tag_not_found":
        return f"the key '{dotted}.kind' is missing"
    if error["type"] == "missing":
        return f"the key {dotted!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if message.startswith("Input ") and isinstance(error["input"], str | int | float):
        message = f"{error['input']!r} {message.removeprefix('Input ')}"
    return f"{dotted}: {message[0].lower()}{message[1:]}"


_KEY_ERRORS = ("extra_forbidden", "invalid_key")
"""The errors of pydantic that are about the key itself."""


def _place(error: Any) -> tuple[tuple[Any, ...], list[str]]:
    """Where an error is, and the keys that its section may have; without the steps that pydantic adds for itself.

    Those are validators, members of unions, and the kind of a section, which says which class the keys are of.
    """
    place: list[Any] = []
    sections: list[type[Config]] = [Recipe]
    *_, last = error["loc"] or (None,)
    for part in error["loc"]:
        fields = [one.model_fields[part].annotation for one in sections if part in one.model_fields]
        kinds = [one for one in sections if part in _kinds(one)]
        if fields:
            place.append(part)
            sections = [one for field in fields for one in _classes(field)]
        elif kinds:
            sections = kinds
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


def _classes(annotation: Any) -> list[type[Config]]:
    """The config classes that stand in a type, however deep in unions and lists."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [one for argument in get_args(annotation) for one in _classes(argument)]


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
    return Recipe.model_json_schema()
