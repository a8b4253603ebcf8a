"""The base of every part's config: typed, frozen, and strict about keys, so that a typo is an error."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A part's settings. The class stands beside the part and builds it; field docstrings become the schema's help."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )
