"""Router's settings, from `OMS_ROUTER_*`."""

from pydantic_settings import SettingsConfigDict

from webapi.settings import EventSettings


class Settings(EventSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_ROUTER_")
