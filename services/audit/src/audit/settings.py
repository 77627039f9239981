"""Audit's settings, from `OMS_AUDIT_*`."""

import base64
import binascii

from pydantic import SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from webapi.settings import ServiceSettings

KEY_BYTES = 32


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_AUDIT_")

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
