"""`/livez`, `/readyz`, `/metrics`: what Kubernetes, the supervisor and Prometheus ask. They need no key and tell no secret."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from telemetry.logs import get_logger
from telemetry.masking import mask_text
from telemetry.metrics import Metrics

READY_SECONDS = 3.0  # A probe gives up after a few seconds; the answer must say which check hung before that.
_log = get_logger(__name__)


@dataclass(frozen=True)
class Check:
    """One thing that must hold before traffic may come, and why it does not."""

    name: str
    ok: bool
    detail: str = ""


class CheckLike(Protocol):
    """Anything shaped like `Check`; libraries need not import it."""

    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def detail(self) -> str: ...


def health_routes(
    ready: Callable[[Request], Awaitable[Sequence[CheckLike]]],
    metrics: Metrics,
    *,
    ready_seconds: float = READY_SECONDS,
) -> APIRouter:
    """The three routes. A check that raises or hangs counts as failed; the process is live as long as it answers."""
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    async def livez() -> JSONResponse:
        return JSONResponse({"live": True})

    @router.get("/readyz")
    async def readyz(request: Request) -> JSONResponse:
        try:
            async with asyncio.timeout(ready_seconds):
                checks = await ready(request)
        except TimeoutError:
            checks = [Check("readiness", ok=False, detail=f"no answer within {ready_seconds:g} s")]
        except Exception as error:  # noqa: BLE001  whatever it is, the answer is "not ready", and the log says why
            _log.warning("health_check_failed", exc_info=error)
            checks = [Check("readiness", ok=False, detail=type(error).__name__)]
        return JSONResponse(
            {"ready": all(check.ok for check in checks), "checks": [_shown(check) for check in checks]},
            status_code=200 if all(check.ok for check in checks) else 503,
        )

    @router.get("/metrics")
    async def metrics_page() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router


def _shown(check: CheckLike) -> dict[str, str | bool]:
    return {"name": check.name, "ok": check.ok, "detail": mask_text(check.detail)}
