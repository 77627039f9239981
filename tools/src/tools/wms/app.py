"""The demo WMS over HTTP: takes orders and stops, works through them by its dials, and calls back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tools.wms.floor import Dials, Floor, Job, event_id
from tools.wms.signing import is_signed, signed_headers

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0


class DemoWms:
    """One WMS, for as many places as are pointed at it with this secret."""

    def __init__(self, dials: Dials, *, oms_url: str, secret: bytes, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.floor = Floor(dials)
        self._secret = secret
        self._oms_url = oms_url.rstrip("/")
        self._client = httpx.AsyncClient(transport=transport, timeout=10)
        self._running: set[asyncio.Task[None]] = set()
        self.refused: list[dict[str, Any]] = []
        """Call-backs that the OMS refused for good: status and code."""

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.aclose()

    def is_signed(self, request: Request, body: bytes) -> bool:
        path = request.scope.get("raw_path", request.url.path.encode()).decode("ascii", "replace").split("?")[0]
        return is_signed(self._secret, request.headers, path=path, body=body)

    def take(self, body: dict[str, Any]) -> dict[str, Any]:
        job, is_new, answer = self.floor.receive(body)
        if is_new and job.is_open:
            self._start(self._work(job))
        return answer

    def stop(self, job: Job, body: dict[str, Any]) -> dict[str, Any]:
        stop_id = str(body["stop_id"])
        answer = self.floor.stop(job, stop_id, body["lines"])
        if not self.floor.dials.pending_stops:
            return answer
        kind = "stopped" if answer["outcome"] == "stopped" else "stop_refused"
        lines = {"lines": answer["lines"]} if kind == "stopped" else {}
        self._start(self._say(job, kind, f"stop {stop_id}", stop_id=stop_id, **lines))
        return {"outcome": "pending"}

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _work(self, job: Job) -> None:
        """An order's way over the floor; a stop may end it at any pause."""
        floor = self.floor
        if job.state == "received":
            await asyncio.sleep(floor.dials.accept_seconds)
            if not job.is_open:
                return
            cause = floor.decide(job)
            if cause is not None:
                await self._say(job, "rejected", "rejected", cause=cause)
                return
            await self._say(job, "accepted", "accepted")
        await asyncio.sleep(floor.dials.pick_seconds)
        if not job.is_open:
            return
        if short := floor.pick(job):
            await self._say(job, "short_pick", "short", lines=short)
        await asyncio.sleep(floor.dials.ship_seconds)
        if not job.is_open:
            return
        parcels = floor.ship(job)
        for number, lines in enumerate(parcels, start=1):
            final = number == len(parcels)
            await self._say(job, "shipped", f"parcel {number}", parcels=[{"lines": lines}], final=final)

    async def _say(self, job: Job, kind: str, what: str, **more: Any) -> None:
        """Call back until it is heard or refused for good."""
        event = {
            "event_id": event_id(job, what),
            "fulfilment_order_id": job.fulfilment_order_id,
            "occurred_at": datetime.now(UTC).isoformat(),
            "kind": kind,
            **more,
        }
        body = json.dumps(event, ensure_ascii=False).encode()
        url = f"{self._oms_url}/v1/wms/{quote(job.place_id, safe='')}/events"
        pause = FIRST_PAUSE_SECONDS
        twice = self.floor.sent_twice(job, what)
        while True:
            with contextlib.suppress(httpx.HTTPError):
                headers = signed_headers(self._secret, path=urlsplit(url).path, body=body)
                response = await self._client.post(url, content=body, headers=headers)
                early = _code(response) == "order_not_submitted"
                if response.status_code < 500 and response.status_code not in (401, 429) and not early:
                    if response.status_code >= 400:
                        self.refused.append({"status": response.status_code, "code": _code(response), "kind": kind})
                    if not twice:
                        return
                    twice = False
                    continue
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def build(wms: DemoWms) -> FastAPI:
    """The application. Reading and dials are open: it listens on loopback, and holds no personal data."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await wms.close()

    app = FastAPI(title="Demo WMS", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.post("/orders")
    async def take(request: Request) -> Response:
        body = await request.body()
        if not wms.is_signed(request, body):
            return _unsigned()
        return JSONResponse(wms.take(json.loads(body)))

    @app.post("/orders/{fulfilment_order_id}/cancellation")
    async def stop(request: Request, fulfilment_order_id: str) -> Response:
        body = await request.body()
        if not wms.is_signed(request, body):
            return _unsigned()
        job = wms.floor.jobs.get(fulfilment_order_id)
        if job is None:
            return JSONResponse({"error": "no such order"}, status_code=404)
        return JSONResponse(wms.stop(job, json.loads(body)))

    @app.get("/orders")
    async def show() -> dict[str, Any]:
        return {"orders": [job.shown() for job in wms.floor.jobs.values()], "refused_call_backs": wms.refused}

    @app.get("/dials")
    async def get_dials() -> dict[str, Any]:
        return asdict(wms.floor.dials)

    @app.put("/dials")
    async def put_dials(request: Request) -> Response:
        """Turn some dials: `{"ship_seconds": 60}`. They hold for what happens from now on."""
        changes = json.loads(await request.body())
        known = asdict(wms.floor.dials)
        if not isinstance(changes, dict) or set(changes) - set(known):
            return JSONResponse({"error": "unknown dial", "dials": sorted(known)}, status_code=422)
        if "reject_skus" in changes:
            changes["reject_skus"] = tuple(changes["reject_skus"])
        wms.floor.dials = replace(wms.floor.dials, **changes)
        return JSONResponse(asdict(wms.floor.dials))

    return app


def _unsigned() -> Response:
    return JSONResponse({"error": "signature wrong"}, status_code=401)


def _code(response: httpx.Response) -> str:
    try:
        return str(response.json().get("code", ""))
    except (ValueError, AttributeError):
        return ""
