"""Settings of inventory: OMS_INVENTORY_…"""

import base64
import binascii

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from webapi.settings import ServiceSettings

KEY_BYTES = 32


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_INVENTORY_")

    default_pool: str = Field(default="main", min_length=1, max_length=64)
    """The pool that orders are held against, unless they name a place; which shop sells from which pool comes later."""
    stock_level_interval_ms: int = Field(default=300, ge=50, le=60_000)
    """Shortest time between two `stock.level` records of one key: shops are told often enough, and bursts become one record."""
    stock_level_batch: int = Field(default=100, ge=1, le=5_000)
    """Levels sent per interval at most. Under load keys queue up and coalesce instead of costing more than the orders do."""
    stock_level_sweep_seconds: int = Field(default=300, ge=1, le=86_400)
    """How often levels are looked for that a process died on before it sent them."""
    stuck_retry_seconds: int = Field(default=900, ge=1, le=86_400)
    """When an order that no place could take is offered again by itself: capacity returns with the day, stock with receipts."""
    seal_key: SecretStr
    """Seals parked records, for what cannot be read may hold anything. 32 bytes in base64; this service's own."""

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
