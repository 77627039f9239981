"""Typed settings: environment variables `OMS_LEDGER_…`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from webapi.settings import EventSettings


class Settings(EventSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_LEDGER_")

    book: str = Field(default="main", pattern=r"^[a-z][a-z0-9_]{0,39}$")
    """The set of books that this deployment keeps; numbers and chains are per book."""
    fold_seconds: int = Field(default=5, ge=1, le=3600)
    """How often balance deltas are folded: a burst leaves some 20 rows a batch, which reports would sum up again and again."""
    fold_rows: int = Field(default=20_000, ge=1, le=1_000_000)
    """Deltas folded in one transaction: well under a second, so it fits the statement time-out."""
