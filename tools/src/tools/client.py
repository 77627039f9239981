"""The six HTTP APIs as an outsider uses them: keys, paging, and problems turned into one readable error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

TIMEOUT_SECONDS = 30.0


class ApiError(Exception):
    """An answer that is not a success: method, path, and what the problem says."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.problem: dict[str, Any] = {}
        if response.headers.get("content-type", "").startswith("application/problem+json"):
            self.problem = response.json()
        said = self.problem.get("title", response.text[:200])
        fields = "; ".join(f"{error['field']}: {error['reason']}" for error in self.problem.get("errors", []))
        request = response.request
        super().__init__(f"{request.method} {request.url.path}: {self.status} {said}{f' ({fields})' if fields else ''}")


class Clients:
    """`async with Clients(stack.urls, key) as oms: await oms.get("ingest", "/v1/orders", limit=5)`"""

    def __init__(self, urls: Mapping[str, str], key: str, *, language: str = "en") -> None:
        headers = {"Authorization": f"Bearer {key}", "Accept-Language": language}
        self._clients = {
            # Proxy settings of the environment are not for a local stack.
            service: httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)
            for service, url in urls.items()
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def get(self, service: str, path: str, **query: Any) -> Any:
        return await self.call(service, "GET", path, params=query)

    async def post(self, service: str, path: str, body: object, **headers: str) -> Any:
        return await self.call(service, "POST", path, json=body, headers=headers)

    async def put(self, service: str, path: str, body: object) -> Any:
        return await self.call(service, "PUT", path, json=body)

    async def call(self, service: str, method: str, path: str, **arguments: Any) -> Any:
        """The decoded answer. Errors: ApiError for anything but 2xx."""
        response = await self._clients[service].request(method, path, **arguments)
        if not response.is_success:
            raise ApiError(response)
        return response.json() if response.content else None

    async def pages(self, service: str, path: str, **query: Any) -> AsyncIterator[dict[str, Any]]:
        """Every item of a paged list."""
        query.setdefault("limit", 500)
        while True:
            page = await self.get(service, path, **query)
            for item in page["items"]:
                yield item
            if page["next"] is None:
                return
            query["next"] = page["next"]
