"""The base of all settings."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all settings: strict types, no unknown keys, no NaN, frozen."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )
