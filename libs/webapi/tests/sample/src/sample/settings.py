"""Settings of the sample service."""

from pydantic_settings import SettingsConfigDict

from webapi.settings import ServiceSettings


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_SAMPLE_")

    stop_seconds: float = 0.0
    """How long the lifespan takes to end; a test makes it hang."""
