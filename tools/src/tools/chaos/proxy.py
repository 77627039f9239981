"""A TCP proxy on loopback that can be slow, cut every connection, or swallow all that comes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Literal, Self

from tools.processes import LOOPBACK

Mood = Literal["open", "slow", "reset", "black_hole"]
SLOW_SECONDS = 0.1
"""Of each piece, in each direction."""
PIECE_BYTES = 64 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)
"""SO_LINGER without time: closing sends a reset, not an orderly end."""


class Proxy:
    """`async with Proxy(target_port) as proxy:` listens on ``proxy.port``; `set_mood` holds for open connections, too.

    In a black hole everybody is let in and whatever they send is lost: such a stream is useless afterwards and must be cut.
    """

    def __init__(self, target_port: int, *, port: int = 0) -> None:
        self.port = port
        self._target_port = target_port
        self._mood: Mood = "open"
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set_mood(self, mood: Mood) -> None:
        self._mood = mood
        if mood == "reset":
            for writer in list(self._writers):
                _cut(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        mine = [writer]
        self._writers.add(writer)
        with contextlib.suppress(asyncio.CancelledError, OSError):  # Cut from either side, or the proxy ends.
            if self._mood == "reset":
                _cut(writer)
                return
            there, onward = await asyncio.open_connection(LOOPBACK, self._target_port)
            mine.append(onward)
            self._writers.add(onward)
            pumps = [asyncio.create_task(self._pump(reader, onward)), asyncio.create_task(self._pump(there, writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        for each in mine:
            self._writers.discard(each)
            _cut(each)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            if self._mood == "black_hole":
                continue
            if self._mood == "slow":
                await asyncio.sleep(SLOW_SECONDS)
            writer.write(piece)
            await writer.drain()


def _cut(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
