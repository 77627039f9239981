"""A bare HTTP/1.1 client for loads: keep-alive connections, no redirects, no TLS.

A full client costs more CPU a request than the service that is measured, on the same two cores.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

CONNECTIONS_MOST = 256
ANSWER_SECONDS = 60.0


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class NoAnswer(Exception):  # noqa: N818  that is what it is
    """The connection broke or the answer did not come in time."""


class HttpLoad:
    """`async with HttpLoad(url, key) as http: await http.post("/v1/orders", body)`; at most so many requests at once."""

    def __init__(self, url: str, key: str, *, connections: int = CONNECTIONS_MOST) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        headers = (
            f"Host: {parts.netloc}",
            f"Authorization: Bearer {key}",
            "Content-Type: application/json",
            "Content-Length: ",
        )
        self._head = " HTTP/1.1\r\n" + "\r\n".join(headers)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._turns = asyncio.Semaphore(connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, writer in self._free:
            await _close(writer)

    async def post(self, path: str, body: bytes) -> Answer:
        """Errors: NoAnswer."""
        async with self._turns:
            writer: asyncio.StreamWriter | None = None
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    reader, writer = await self._connection()
                    writer.write(f"POST {path}{self._head}{len(body)}\r\n\r\n".encode() + body)
                    answer = await read_answer(reader)
            except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
                if writer is not None:
                    await _close(writer)
                raise NoAnswer(f"POST {path}: {type(error).__name__}") from error
            if answer.headers.get("connection") == "close":
                await _close(writer)
            else:
                self._free.append((reader, writer))
            return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One that is open still: a server hangs up on those that were idle for some seconds."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
            await _close(writer)
        return await asyncio.open_connection(self._host, self._port)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Errors: ValueError for what is no answer with a length; EOFError."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    version, status, *_ = first.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not HTTP/1: {first}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"])) if "content-length" in headers else await _chunks(reader)
    return Answer(int(status), headers, body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
