"""The base of every definition model: unknown keys are errors, values are frozen."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Definition(BaseModel):
    """A validated piece of ``distro/``."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
