"""From a service's settings to those of its event runtime."""

from __future__ import annotations

from eventing import AesGcmSealer, RuntimeSettings
from webapi.settings import EventSettings, key_bytes


def runtime_settings(settings: EventSettings, *, version: str) -> RuntimeSettings:
    """What the environment says; everything else keeps the runtime's own numbers."""
    return RuntimeSettings(
        order_partitions=settings.order_partitions,
        seal=AesGcmSealer(key_bytes(settings.seal_key)),
        source=settings.event_source,
        replay_until=settings.replay_until,
        version=version,
        crash_at=settings.crash_at,
        clock_offset_seconds=settings.clock_offset_seconds,
    )
