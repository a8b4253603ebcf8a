"""How layers attend, as a recipe says it.

attention: longformer                                     a pattern by name
attention: {kind: window, left: 128, right: 128}          or part by part
attention: {kind: any, of: [bigbird, {kind: window, left: 9, right: 9, dilation: 4}]}
attention: {kind: heads, of: [{kind: window, dilation: 2}, full]}      half of the heads each
attention: {kind: linear, features: favor, size: 256, redraw: 1000}    or linearly
attention: {kind: block_sparse, size: 64, random: 3}      or as Hugging Face's BigBird
attention: [full, window, window, full]                   or layer by layer
"""

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from kotya.attention.block_patterns import Random
from kotya.attention.block_sparse import BlockSparse
from kotya.attention.features import Elu, Favor, FeatureMap, Relu
from kotya.attention.forms import Form, Linear, Linformer, Patterned
from kotya.attention.head_patterns import HeadPatterns, Kernel
from kotya.attention.linformer import LengthProjection
from kotya.attention.patterns import Full, Global, Pattern, Window
from kotya.attention.presets import PRESETS
from kotya.config import Config, wrong

MOST = (1 << 31) - 1
"""Of positions: what they are multiplied to is still a number of 64 bits."""


class PatternConfig(Config):
    """A pattern."""

    @abstractmethod
    def pattern(self) -> Pattern:
        """Its value. Raises KotyaError where it makes no sense."""


class NamedConfig(PatternConfig):
    """One that has a name."""

    kind: Literal["preset"] = "preset"
    name: Literal["full", "window", "dilated", "global", "random", "longformer", "bigbird"]

    def pattern(self) -> Pattern:
        return PRESETS[self.name]


class WindowConfig(PatternConfig):
    """A band around the query."""

    kind: Literal["window"]
    left: int = Field(128, ge=0, le=MOST)
    """Keys before it."""
    right: int = Field(128, ge=0, le=MOST)
    """Keys behind it."""
    dilation: int = Field(1, ge=1, le=MOST)
    """Only every so-many-th."""

    def pattern(self) -> Pattern:
        return Window(self.left, self.right, self.dilation)


Position = Annotated[int, Field(strict=True, ge=0, le=MOST)]


class GlobalConfig(PatternConfig):
    """Positions that see all and are seen by all."""

    kind: Literal["global"]
    positions: Position | tuple[Position, ...] = 1
    """The first so many, or those that are named."""

    def pattern(self) -> Pattern:
        return Global(self.positions)


class RandomConfig(PatternConfig):
    """Blocks of keys drawn at random, for every head its own."""

    kind: Literal["random"]
    blocks: int = Field(3, ge=0, lt=1 << 16)
    seed: int = Field(0, ge=0, lt=1 << 62)
    size: int = Field(64, ge=1, le=MOST)
    """Positions in a block."""

    def pattern(self) -> Pattern:
        return Random(self.blocks, self.seed, self.size)


class AnyConfig(PatternConfig):
    """What one of them sees."""

    kind: Literal["any"]
    of: tuple["Part", ...] = Field(min_length=1)

    def pattern(self) -> Pattern:
        first, *others = (part.pattern() for part in self.of)
        for other in others:
            first = first | other
        return first


class AllConfig(PatternConfig):
    """What all of them see."""

    kind: Literal["all"]
    of: tuple["Part", ...] = Field(min_length=1)

    def pattern(self) -> Pattern:
        first, *others = (part.pattern() for part in self.of)
        for other in others:
            first = first & other
        return first


def _by_name(value: Any) -> Any:
    """A pattern, or a kind with its default settings, by name."""
    if not isinstance(value, str):
        return value
    return (
        {"kind": value}
        if value in ("linear", "linformer", "block_sparse")
        else {"kind": "preset", "name": value}
    )


Part = Annotated[
    NamedConfig | WindowConfig | GlobalConfig | RandomConfig | AnyConfig | AllConfig,
    Field(discriminator="kind"),
    BeforeValidator(_by_name),
]


class HeadsConfig(Config):
    """A pattern for each of some equal groups of heads."""

    kind: Literal["heads"]
    of: tuple[Part, ...] = Field(min_length=1)


class LinearConfig(Config):
    """Q′(K′ᵀV)."""

    kind: Literal["linear"]
    features: Literal["elu", "relu", "favor"] = "elu"
    size: int = Field(256, ge=2, multiple_of=2)
    """Random features of FAVOR+, an even number; the others have as many as a head is wide."""
    redraw: int | None = Field(None, ge=1)
    """FAVOR+ draws its features anew after so many batches."""

    @model_validator(mode="after")
    def _features_are_drawn_or_not(self) -> "LinearConfig":
        for key in ("size", "redraw"):
            given = getattr(self, key)
            if self.features != "favor" and given != type(self).model_fields[key].default:
                raise wrong((key,), f"it is of features: favor; of {self.features} none are drawn", given)
        return self

    def feature_map(self, head_size: int) -> FeatureMap:
        if self.features == "favor":
            return Favor(head_size, self.size, redraw=self.redraw)
        return Elu(head_size) if self.features == "elu" else Relu(head_size)


class LinformerConfig(Config):
    """Softmax attention over learned mixtures of all positions. It has no causal form."""

    kind: Literal["linformer"]
    size: int = Field(256, ge=1)
    """How many mixtures."""


class BlockSparseConfig(Config):
    """BigBird as Hugging Face's computes it in use. It has no causal form."""

    kind: Literal["block_sparse"]
    size: int = Field(64, ge=1, le=MOST)
    """Positions in a block."""
    random: int = Field(3, ge=0, lt=1 << 16)
    """Its random blocks, all of which are the first one outside training: so often it counts beside its once."""


AttentionConfig = Annotated[
    NamedConfig
    | WindowConfig
    | GlobalConfig
    | RandomConfig
    | AnyConfig
    | AllConfig
    | HeadsConfig
    | LinearConfig
    | LinformerConfig
    | BlockSparseConfig,
    Field(discriminator="kind"),
    BeforeValidator(_by_name),
]


def _layer_by_layer(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


LayersAttention = Annotated[
    tuple[AttentionConfig, ...], BeforeValidator(_layer_by_layer), Field(min_length=1)
]
"""One for all layers, or one a layer."""

EVERYTHING: tuple[NamedConfig, ...] = (NamedConfig(name="full"),)


def of_layer(config: tuple[AttentionConfig, ...], layer: int) -> AttentionConfig:
    """What a layer has."""
    return config[0] if len(config) == 1 else config[layer]


def patterns_of(config: AttentionConfig) -> tuple[Pattern, ...]:
    """Those of its groups of heads; none of what is no pattern."""
    if isinstance(config, HeadsConfig):
        return tuple(part.pattern() for part in config.of)
    return (config.pattern(),) if isinstance(config, PatternConfig) else ()


def patterned(config: AttentionConfig) -> bool:
    """Whether a pattern says what some of its heads see, and not that they see everything."""
    return any(not isinstance(pattern, Full) for pattern in patterns_of(config))


def not_causal(configs: tuple[AttentionConfig, ...]) -> str | None:
    """Why a decoder cannot attend so to its own text; None where it can."""
    for config in configs:
        if isinstance(config, LinformerConfig):
            return "linformer has no causal form: it mixes the future into every key"
        if isinstance(config, BlockSparseConfig):
            return "block_sparse has no causal form: the last block of a text is seen by all; bigbird has one"
    return None


def not_across(configs: tuple[AttentionConfig, ...]) -> str | None:
    """Why a decoder cannot attend so to its source; None where it can."""
    for config in configs:
        if isinstance(config, BlockSparseConfig):
            return "block_sparse is of one text that reads itself"
        if any(pattern.proportional() for pattern in patterns_of(config)):
            return (
                "a window across two texts stands in proportion to both, and search does not know how long the target "
                "will be; full, global, random, linear and linformer do not need to"
            )
    return None


def not_by_kernel(kernel: Kernel, configs: tuple[AttentionConfig, ...]) -> str | None:
    """Why layers that attend so cannot do it by the kernel that was asked for; None where those with patterns can.

    Others of them are as they are without it; one that has a use for it there must be.
    """
    if kernel == "auto":
        return None
    if kernel != "dense" and any(patterned(one) and Full() in patterns_of(one) for one in configs):
        return (
            f"the kernel {kernel!r} leaves out blocks, and heads that see everything have none to leave out"
        )
    can = patterns_of if kernel == "dense" else patterned
    if any(can(config) or isinstance(config, BlockSparseConfig) for config in configs):
        return None
    return f"no layer attends by a pattern, and the kernel {kernel!r} is of patterns"


def not_reached(configs: tuple[AttentionConfig, ...], longest: int) -> str | None:
    """Which global position texts of so many tokens at most do not have; None where they have all."""
    patterns = (pattern for config in configs for pattern in patterns_of(config))
    furthest = max((pattern.furthest() for pattern in patterns), default=-1)
    if furthest < longest:
        return None
    return f"position {furthest} is to be global, and texts end before {longest}: positions count from 0"


def not_shared(configs: tuple[AttentionConfig, ...], heads: int) -> str | None:
    """Which patterns so many heads cannot share evenly; None where they can."""
    for count in (len(patterns_of(config)) for config in configs):
        if count and heads % count:
            return f"{heads} heads cannot share {count} patterns evenly"
    return None


def form_of(
    config: AttentionConfig, *, layer: int, heads: int, head_size: int, max_length: int, kernel: Kernel
) -> Form | None:
    """What a layer attends by; None where every query sees every key.

    Raises KotyaError for a pattern that makes no sense. `kernel`: of patterns; whether one can do it, `not_by_kernel`
    says.
    """
    if isinstance(config, LinearConfig):
        return Linear(config.feature_map(head_size))
    if isinstance(config, LinformerConfig):
        return Linformer(LengthProjection(max_length, config.size))
    if isinstance(config, BlockSparseConfig):
        return BlockSparse(config.size, config.random, layer, kernel)
    patterns = HeadPatterns(patterns_of(config), layer, kernel)
    patterns.groups(heads, causal=False)
    if all(isinstance(pattern, Full) for pattern in patterns.patterns):
        return None
    return Patterned(patterns)
