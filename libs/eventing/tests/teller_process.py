"""The sample service as a process of its own, for tests that kill it. Settings come as JSON in TELLER."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


async def main() -> None:
    from eventing_sample import Teller, build

    from eventing import AesGcmSealer, KafkaBroker, RuntimeSettings, create_engine

    given = json.loads(os.environ["TELLER"])
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    engine = create_engine(given["database_url"])
    runtime = build(
        Teller(),
        engine=engine,
        broker=KafkaBroker(given["bootstrap"], given["prefix"]),
        settings=RuntimeSettings(seal=AesGcmSealer(b"k" * 32), **given["settings"]),
    )
    async with runtime:
        sys.stdout.write("started\n")
        sys.stdout.flush()
        await stopped.wait()
    await engine.dispose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main())
