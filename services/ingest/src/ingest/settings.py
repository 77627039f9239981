"""Settings of ingest, from `OMS_INGEST_*`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from webapi.settings import EventSettings, Key


class Settings(EventSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_INGEST_")

    receiver_kek: Key
    """Wraps the data keys of sealed receivers and raw orders; fulfillment has the same. `openssl rand -base64 32`."""
    receiver_kek_id: Annotated[str, Field(min_length=1, max_length=64)] = "1"
    """Name of the key above, written beside every sealed text, so that it can be changed one day."""
    receiver_older_keks_file: Path | None = None
    """Keys that were in force before, by their names: a JSON object, `{"1": "…"}`. They only open what was sealed with them."""
    token_key: Key
    """Keys the hashes that stand for phones and addresses. 32 bytes in base64; a new one makes every blacklist entry blind."""
    refunds_from_versions: bool = True
    """Whether a line that the channel shows as refunded, with a refund's id, is told as a refund. False where another system
    posts every refund to `/v1/orders/…/refunds`."""
    intake_backlog_limit: Annotated[int, Field(ge=1)] = 50_000
    """Unsent outbox rows above which HTTP intake answers 503: 50 s of relay at 1,000 orders/s, so a broker's restart fits."""
    intake_backlog_check_seconds: Annotated[float, Field(ge=0)] = 1.0
    """How old the backlog figure may be: one count a second costs nothing, one per request would."""
    retry_after_seconds: Annotated[int, Field(ge=1)] = 5
    """What a caller is told to wait then: the relay sends some thousand rows in that time."""
    wake_batch: Annotated[int, Field(ge=1, le=1000)] = 200
    """Parked orders sent on per transaction when their catalogue item arrives."""
    note_keywords: dict[str, str] = {  # noqa: RUF012  pydantic copies defaults
        "顺丰": "wants_carrier",
        "京东快递": "wants_carrier",
        "中通": "wants_carrier",
        "圆通": "wants_carrier",
        "EMS": "wants_carrier",
        "不要打电话": "no_contact",
        "别打电话": "no_contact",
        "勿电联": "no_contact",
        "改地址": "change_address",
        "换地址": "change_address",
        "地址改": "change_address",
        "急用": "urgent",
        "尽快发": "urgent",
        "加急": "urgent",
        "发票": "wants_invoice",
        "一起发": "ship_together",
        "合并发": "ship_together",
        "不要发货": "do_not_ship",
        "先别发": "do_not_ship",
        "退款": "asks_refund",
    }
    """Phrases of buyers' and sellers' notes and the flag each raises; a JSON object replaces the table."""
