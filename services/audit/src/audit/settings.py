"""Audit's settings, from `OMS_AUDIT_*`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from webapi.settings import EventSettings


class Settings(EventSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_AUDIT_")

    undo_seconds: int = Field(default=0, ge=0, le=600)
    """How long a release or reject waits, and can be taken back, where the caller does not say. 0: done at once."""
