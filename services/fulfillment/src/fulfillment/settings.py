"""Settings of fulfilment, from `OMS_FULFILLMENT_*`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from fulfillment.domain import Policy
from webapi.settings import EventSettings, Key, key_bytes

WMS_SECRET_CHARACTERS = 16
WEEK_SECONDS = 7 * 24 * 3600


class Settings(EventSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_FULFILLMENT_")

    receiver_kek: Key
    """Unwraps the data keys of sealed receivers; ingest has the same. 32 bytes in base64: `openssl rand -base64 32`."""
    receiver_kek_id: Annotated[str, Field(min_length=1, max_length=64)] = "1"
    """Name of the key above, as ingest writes it beside every sealed receiver."""
    receiver_older_keks: dict[str, Key] | None = None
    """Keys that were in use before, by name, as a JSON object: what they sealed stays readable after a change of key."""
    ship_seconds: Annotated[float, Field(ge=0, le=WEEK_SECONDS)] = 0.0
    """How long the automatic connector takes to pick and pack; 0 ships in the transaction that takes the order on."""
    delivery_seconds: Annotated[float, Field(ge=0, le=30 * 24 * 3600)] | None = None
    """When the automatic connector reports delivery, counted from shipping. Unset: never; carriers report it."""
    packaging_grams: Annotated[int, Field(ge=0, le=100_000)] = 150
    """Carton and filling of one parcel: what a small e-commerce carton weighs."""
    freight_first_kg_minor: Annotated[int, Field(ge=0, le=10_000_000)] = 600
    """Freight of the first kilogram where the plan carries no cost: ¥6, a common contract price inside China."""
    freight_next_kg_minor: Annotated[int, Field(ge=0, le=10_000_000)] = 200
    """Freight of each further kilogram begun, likewise."""
    default_carrier: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")] = "sf"
    """Who carries what a plan gave to no carrier: SF Express reaches every county."""

    wms_secrets: dict[str, SecretStr] | None = None
    """Secrets shared with WMS, by name, as a JSON object: a place's connector names one. 16 characters at the least."""
    pick_up_days: Annotated[int, Field(ge=1, le=90)] = 7
    """How long a pick-up order waits for its buyer before people look at it: stores keep parcels for a week."""

    @field_validator("wms_secrets")
    @classmethod
    def _are_long(cls, value: dict[str, SecretStr] | None) -> dict[str, SecretStr] | None:
        if any(len(secret.get_secret_value()) < WMS_SECRET_CHARACTERS for secret in (value or {}).values()):
            raise ValueError(f"a secret has fewer than {WMS_SECRET_CHARACTERS} characters")
        return value

    def wms_keys(self) -> dict[str, bytes]:
        """The WMS's secrets by name."""
        return {name: secret.get_secret_value().encode() for name, secret in (self.wms_secrets or {}).items()}

    def pick_up_key(self) -> bytes:
        """What pick-up codes are derived from."""
        return key_bytes(self.seal_key)

    def policy(self) -> Policy:
        return Policy(
            ship_seconds=self.ship_seconds,
            delivery_seconds=self.delivery_seconds,
            packaging_grams=self.packaging_grams,
            freight_first_kg_minor=self.freight_first_kg_minor,
            freight_next_kg_minor=self.freight_next_kg_minor,
            default_carrier=self.default_carrier,
        )

    def keks(self) -> dict[str, bytes]:
        """All key-encryption keys by name."""
        older = {name: key_bytes(secret) for name, secret in (self.receiver_older_keks or {}).items()}
        return older | {self.receiver_kek_id: key_bytes(self.receiver_kek)}
