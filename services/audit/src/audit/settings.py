"""Audit's settings: what all services share is enough."""

from pydantic_settings import SettingsConfigDict
from webapi.settings import ServiceSettings


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_AUDIT_")
