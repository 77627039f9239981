"""Router's settings, from `OMS_ROUTER_*`."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from webapi.settings import EventSettings


class Settings(EventSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_ROUTER_")

    event_source: Annotated[str, Field(pattern=r"^/[a-z0-9/_-]{1,60}$")] | None = None
    """`ce_source`; None is "/router". A database restored from a backup gets a new one, "/router/2": docs/restore.md."""
    decision_days: int = Field(default=90, ge=1, le=3650)
    """How long decisions are kept: a quarter, so that a season can be replayed under another policy. About 1 kB each."""
