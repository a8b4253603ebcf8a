"""The base of every part's config: typed, frozen, and strict about keys, so that a typo is an error."""

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
