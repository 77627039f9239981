"""Outbound HTTP: a place's WMS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.envelope import Quantity, SkuId
from fulfillment.signature import signed_headers
from fulfillment.store import Endpoint

MOST_ANSWER_BYTES = 1024 * 1024


class WmsError(Exception):
    """Not a clear answer: the same key is sent again later."""


class WmsLine(BaseModel):
    """Units of a line, as a WMS names them."""

    model_config = ConfigDict(frozen=True)

    origin_order_id: UUID | None = None
    origin_line: Annotated[int, Field(strict=True, ge=1, le=500)] | None = None
    sku_id: SkuId
    quantity: Quantity


class WmsAnswer(BaseModel):
    """What a WMS answers at once. Unknown fields are its own business."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["accepted", "rejected", "pending", "stopped", "refused"]
    stock_effect: Literal["none", "missing", "nothing_left", "damaged"] = "none"
    lines: Annotated[list[WmsLine], Field(max_length=1000)] = []


class Wms:
    """Speaks to WMS over one pool of connections. Nothing of a body is logged."""

    def __init__(self, secrets: Mapping[str, bytes], *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._secrets = secrets
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    def secret(self, name: str) -> bytes | None:
        return self._secrets.get(name)

    async def post(self, endpoint: Endpoint, path: str, body: Mapping[str, Any], *, key: str, now: datetime) -> WmsAnswer:
        """Post, signed. **Errors**: WmsError, httpx.HTTPError."""
        secret = self._secrets.get(endpoint.secret_name)
        if secret is None:
            raise WmsError("the secret of the place is not in the settings")
        url = endpoint.base_url.rstrip("/") + path
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            **signed_headers(secret, now=now, method="POST", path=urlsplit(url).path, body=content),
        }
        if self._client is None:
            self._client = httpx.AsyncClient(transport=self._transport, follow_redirects=False)
        response = await self._client.post(url, content=content, headers=headers, timeout=endpoint.timeout_seconds)
        if not response.is_success:
            raise WmsError(f"the WMS answered {response.status_code}")
        if len(response.content) > MOST_ANSWER_BYTES:
            raise WmsError("the WMS answered too much")
        try:
            return WmsAnswer.model_validate_json(response.content)
        except ValidationError:
            raise WmsError("the answer of the WMS is not understood") from None

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
