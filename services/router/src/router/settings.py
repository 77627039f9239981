"""Router's settings, from `OMS_ROUTER_*`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from webapi.settings import EventSettings


class Settings(EventSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_ROUTER_")

    decision_days: int = Field(default=90, ge=1, le=3650)
    """How long decisions are kept: a quarter, so that a season can be replayed under another policy. About 1 kB each."""
