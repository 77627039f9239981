"""Typed settings: environment variables `OMS_LEDGER_…`."""

import base64
import binascii

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from webapi.settings import ServiceSettings

KEY_BYTES = 32


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_LEDGER_")

    seal_key: SecretStr
    """Seals parked records, for what cannot be read may hold anything. 32 bytes in base64; this service's own."""
    book: str = Field(default="main", pattern=r"^[a-z][a-z0-9_]{0,39}$")
    """The set of books that this deployment keeps; numbers and chains are per book."""
    fold_seconds: int = Field(default=5, ge=1, le=3600)
    """How often balance deltas are folded: a burst leaves some 20 rows a batch, which reports would sum up again and again."""
    fold_rows: int = Field(default=20_000, ge=1, le=1_000_000)
    """Deltas folded in one transaction: well under a second, so it fits the statement time-out."""

    @field_validator("seal_key")
    @classmethod
    def _is_key(cls, secret: SecretStr) -> SecretStr:
        key_bytes(secret)
        return secret


def key_bytes(secret: SecretStr) -> bytes:
    """The bytes of a key given in base64."""
    try:
        key = base64.b64decode(secret.get_secret_value(), validate=True)
    except binascii.Error:
        raise ValueError("must be base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"must be {KEY_BYTES} bytes in base64")
    return key
