"""The faults. Each begins, lasts, and ends by itself; what follows (drain, checks) is the same for all."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx

from tools.background import Background
from tools.bench.ground import open_places
from tools.bench.verdict import number_of
from tools.chaos import disk
from tools.chaos.feed import SHOP, Feed
from tools.chaos.proxy import Mood, Proxy
from tools.client import ApiError, Clients
from tools.drill.reconcile import parked_keys, retry_parked
from tools.local_postgres import SERVICES, LocalPostgres
from tools.sample.goods import bench_goods
from tools.stack import Stack
from tools.waiting import until

PAUSE_SECONDS = 14.0
"""Past a consumer's session of 10 s: its partitions are given to others."""
AWAY_SECONDS = 120.0
LAST_SECONDS = 12.0
"""How long a fault lasts that has no end of its own."""
READY_SECONDS = 60.0
CRASH_POINTS = (
    "after_claim", "before_commit", "after_commit", "before_offset_commit", "after_offset_commit",
    "before_send", "after_send", "after_delete", "after_lease", "after_call", "before_record", "after_apply",
)  # fmt: skip
CRASH_SECONDS = 18.0
CHANGE_SECONDS = 0.5
SOON_SECONDS = 10.0
"""Tasks that are due within that time are waited for: shipments of simulated places, say."""
REASON = "chaos: the good release is back"
MOST_PARKED = 400
"""Keys: the breaker looks at no less than 200, and a batch of 300 may be under way."""
# The ledger folds its balances every few seconds, for ever.
_DUE = "SELECT count(*) FROM task WHERE due_at < now() + $1::interval AND kind <> 'fold_balances'"
_NO_SPACE = b"No space left on device"
_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime",
    "/usr/lib/aarch64-linux-gnu/faketime",
    "/usr/lib/faketime",
    "/usr/lib64/faketime",
)
_BROKEN = """
import zlib
import {module} as module
_right = module.{cls}.{method}
async def _wrong(self, received, *rest, **named):
    if any({when} for one in received):
        raise RuntimeError("a deployment that is bad on purpose")
    return await _right(self, received, *rest, **named)
module.{cls}.{method} = _wrong
"""

_ONE_IN_A_HUNDRED = "zlib.crc32(one.key.encode()) % 100 == 0"
_OF_OTHERS = "SELECT count(*) FROM channel_order WHERE shop_id <> $1"


class NotTriedError(Exception):
    """The fault was not reached, and why."""


@dataclass(slots=True)
class Ground:
    """What a fault may touch."""

    stack: Stack
    feed: Feed
    env: dict[str, dict[str, str]]
    """Settings per service of processes started from now on."""
    broker_proxy: Proxy
    draw: random.Random
    note: str = ""
    """What is to be told of a fault that held."""

    @property
    def postgres(self) -> LocalPostgres:
        if self.stack.postgres is None:
            raise NotTriedError("needs a database server of its own")
        return self.stack.postgres

    def set(self, service: str, name: str, value: str) -> None:
        self.env[service][f"OMS_{service.upper()}_{name}"] = value

    def unset(self, service: str) -> None:
        self.env[service].clear()

    async def restart(self, name: str, number: int = signal.SIGTERM) -> None:
        self.stack.kill(name, number)
        await self.stack.start(name)


Act = Callable[[Ground], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    says: str
    act: Act
    needs: str = ""
    """What not every machine has; without it the fault may stay untried."""


def worker_of(service: str) -> str:
    return f"{service}-2"


def _kill(name: str) -> Act:
    async def act(ground: Ground) -> None:
        await ground.restart(name, signal.SIGKILL)

    return act


async def _broker_away(ground: Ground) -> None:
    ground.stack.kill("kafka")
    await asyncio.sleep(AWAY_SECONDS)
    await ground.stack.start("kafka")


async def _disk_full(ground: Ground) -> None:
    """One service's database has a disk of its own, which fills up and is given room again."""
    if lacking := disk.why_not():
        raise NotTriedError(lacking)
    service = ground.draw.choice(SERVICES)
    postgres, database = ground.postgres, urlsplit(ground.stack.database_urls[service]).path.removeprefix("/")
    size_bytes = await disk.size_of(postgres, database) + disk.ROOM_BYTES
    with disk.small_disk(postgres, size_bytes) as folder:
        async with _stopped(ground, service):
            await disk.move_there(postgres, database, folder)
        began = postgres.log_path.stat().st_size
        with disk.full(folder):
            await until(lambda: _said(postgres.log_path, began, _NO_SPACE), seconds=READY_SECONDS, what="a full disk")
            await asyncio.sleep(LAST_SECONDS)
        await asyncio.sleep(LAST_SECONDS)
        async with _stopped(ground, service):
            await disk.move_back(postgres, database)
    ground.note = f"of {service}"


def _wrong_clock(setting: Callable[[Ground, str, int], None]) -> Act:
    """A service's machine is an hour ahead, then an hour behind. What it scheduled by such a clock it also carries out by it:
    afterwards that would stand an hour off, and run by itself when its time comes."""

    async def act(ground: Ground) -> None:
        service = ground.draw.choice(SERVICES)
        for hours in (1, -1):
            setting(ground, service, hours)
            await _restart_both(ground, service)
            await asyncio.sleep(LAST_SECONDS)
            ground.feed.paused = True
            soon = timedelta(hours=hours, seconds=SOON_SECONDS)

            async def idle(soon: timedelta = soon) -> bool:
                return not await number_of(ground.stack, service, _DUE, soon)

            await until(idle, seconds=READY_SECONDS, what=f"the tasks of {service}", every_seconds=0.5)
            ground.unset(service)
            await _restart_both(ground, service)
            ground.feed.paused = False
        ground.note = f"of {service}"

    return act


def _by_setting(ground: Ground, service: str, hours: int) -> None:
    ground.set(service, "CLOCK_OFFSET_SECONDS", str(hours * 3600))


def _by_libfaketime(ground: Ground, service: str, hours: int) -> None:
    library = next((str(path) for folder in _LIBRARIES for path in Path(folder).glob("libfaketime.so.1")), None)
    if library is None:
        raise NotTriedError("libfaketime is not installed")
    ground.env[service] |= {"LD_PRELOAD": library, "FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def _restart_both(ground: Ground, service: str) -> None:
    for name in (service, worker_of(service)):
        await ground.restart(name)


async def _stalled(ground: Ground) -> None:
    service = ground.draw.choice(SERVICES)
    other = await ground.stack.add_worker(service)
    ground.stack.kill(worker_of(service), signal.SIGSTOP)
    try:
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        ground.stack.kill(worker_of(service), signal.SIGCONT)
    await asyncio.sleep(LAST_SECONDS)
    await ground.stack.remove_worker(other)


async def _rolling(ground: Ground) -> None:
    for service in SERVICES:
        await _restart_both(ground, service)


async def _scale(ground: Ground) -> None:
    service = ground.draw.choice(SERVICES)
    added = [await ground.stack.add_worker(service) for _ in range(3)]
    await asyncio.sleep(LAST_SECONDS)
    for name in added:
        await ground.stack.remove_worker(name)


def _through_database_proxy(mood: Mood) -> Act:
    async def act(ground: Ground) -> None:
        service = ground.draw.choice(SERVICES)
        url = urlsplit(ground.stack.database_urls[service])
        async with Proxy(int(url.port or 0)) as proxy:
            through = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{proxy.port}")).geturl()
            ground.set(service, "DATABASE_URL", through)
            async with _restarted(ground, service):
                proxy.set_mood(mood)
                await asyncio.sleep(LAST_SECONDS)
                proxy.set_mood("open")
                if mood == "black_hole":
                    proxy.set_mood("reset")  # The route is back; what was lost in it makes those streams useless.
                    proxy.set_mood("open")
                await asyncio.sleep(LAST_SECONDS)

    return act


def _through_broker_proxy(mood: Mood) -> Act:
    async def act(ground: Ground) -> None:
        service = ground.draw.choice(SERVICES)
        ground.set(service, "KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{ground.broker_proxy.port}")
        async with _restarted(ground, service):
            ground.broker_proxy.set_mood(mood)
            try:
                await asyncio.sleep(LAST_SECONDS)
            finally:
                ground.broker_proxy.set_mood("reset" if mood == "black_hole" else "open")
                ground.broker_proxy.set_mood("open")
            await asyncio.sleep(LAST_SECONDS)

    return act


def _odd_records(*, duplicates: float = 0.0, invalid: float = 0.0, shop: str | None = None) -> Act:
    async def act(ground: Ground) -> None:
        feed = ground.feed
        feed.duplicates, feed.invalid, feed.invalid_shop = duplicates, invalid, shop
        try:
            await asyncio.sleep(2 * LAST_SECONDS)
        finally:
            feed.duplicates = feed.invalid = 0.0

    return act


async def _poison(ground: Ground) -> None:
    """One order in a hundred makes audit fail, until the next release; a person then has them tried again."""
    with _broken("audit.handlers.received", "Auditor", "on_order_received", when=_ONE_IN_A_HUNDRED) as folder:
        ground.env["audit"]["PYTHONPATH"] = folder
        async with _restarted(ground, "audit"):
            await asyncio.sleep(2 * LAST_SECONDS)
    await _retry_parked(ground, "audit")


async def _bad_deployment(ground: Ground) -> None:
    """Every order makes audit fail: the breaker must stop it before everything is parked."""
    with _broken("audit.handlers.received", "Auditor", "on_order_received", when="True") as folder:
        ground.env["audit"]["PYTHONPATH"] = folder
        async with _restarted(ground, "audit"):
            await until(lambda: _is_open(ground, "audit"), seconds=READY_SECONDS, what="audit's breaker", every_seconds=0.5)
            await asyncio.sleep(LAST_SECONDS)
            async with Clients(ground.stack.urls, ground.stack.keys["admin"]) as oms:
                parked = len(await parked_keys(oms, "audit"))
            if parked > MOST_PARKED:
                raise RuntimeError(f"the breaker let {parked} keys be parked")
    await _retry_parked(ground, "audit")


async def _bad_shop(ground: Ground) -> None:
    """Every order of one shop makes ingest fail: that shop is stopped, nobody else. Then the good release, and a person lets
    the shop in again and has its orders tried again."""
    ground.feed.of_one_shop = 1.0
    when = f"one.event.shop_id == {SHOP!r}"
    with _broken("ingest.handlers", "Handlers", "on_channel_orders", when=when) as folder:
        ground.env["ingest"]["PYTHONPATH"] = folder
        async with _restarted(ground, "ingest"):
            await until(lambda: _is_open(ground, "ingest"), seconds=READY_SECONDS, what="the shop's breaker", every_seconds=0.5)
            before = await number_of(ground.stack, "ingest", _OF_OTHERS, SHOP)
            await asyncio.sleep(LAST_SECONDS)
            if await number_of(ground.stack, "ingest", _OF_OTHERS, SHOP) == before:
                raise RuntimeError("the breaker of one shop stopped all")
    ground.feed.of_one_shop = 0.0
    async with Clients(ground.stack.urls, ground.stack.keys["admin"]) as oms:
        for state in await oms.get("ingest", "/v1/operations/breaker"):
            which = {name: state[name] for name in ("consumer", "scope")}
            await oms.post("ingest", "/v1/operations/breaker/close", which | {"reason": REASON})

        async def none_left() -> bool:
            return not await _retry_quarantined(oms, "ingest")

        await until(none_left, seconds=READY_SECONDS, what="the quarantined orders of the shop", every_seconds=2)
    await _retry_parked(ground, "ingest")


async def _crash_points(ground: Ground) -> None:
    """Every service dies at every point that it passes; those that never fire are named. Master data changes all along: half
    of the services read it, and have points of their own there."""
    async with _MasterData(ground.stack):
        await _walk_crash_points(ground)


class _MasterData(Background):
    """An item and a place change their names all along."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._stack = stack

    async def __aenter__(self) -> Self:
        self._begin(self._change())
        return self

    async def _change(self) -> None:
        good, place = bench_goods(1)[0], open_places()[0]
        async with Clients(self._stack.urls, self._stack.keys["admin"]) as oms:
            for number in itertools.count():
                if self._stopped:
                    return
                try:
                    await oms.put("inventory", "/v1/items", {"items": [good.item() | {"name": f"{good.name} {number}"}]})
                    changed = place.location() | {"name": f"{place.name} {number}"}
                    await oms.put("inventory", "/v1/locations", {"locations": [changed]})
                except (ApiError, httpx.HTTPError):
                    pass  # Somebody is dying here all the time: the next change is as good.
                await asyncio.sleep(CHANGE_SECONDS)


async def _walk_crash_points(ground: Ground) -> None:
    never: list[str] = []
    for point in CRASH_POINTS:
        for service in SERVICES:
            ground.set(service, "CRASH_AT", f"{point}:3")
            ground.stack.expect_end(worker_of(service))
        for service in SERVICES:
            ground.stack.kill(worker_of(service), signal.SIGTERM)
        await asyncio.gather(*(_start_doomed(ground, service) for service in SERVICES))
        await asyncio.sleep(CRASH_SECONDS)
        for service in SERVICES:
            ground.unset(service)
            if _is_running(ground, worker_of(service)):
                never.append(f"{service} {point}")
                ground.stack.kill(worker_of(service), signal.SIGKILL)
        await asyncio.gather(*(ground.stack.start(worker_of(service)) for service in SERVICES))
    reached = len(CRASH_POINTS) * len(SERVICES) - len(never)
    if silent := [point for point in CRASH_POINTS if all(f"{service} {point}" in never for service in SERVICES)]:
        raise NotTriedError(f"{reached} deaths, but nobody passed {', '.join(silent)}")
    ground.note = f"{reached} deaths; never passed: {', '.join(never) or 'none'}"


async def _start_doomed(ground: Ground, service: str) -> None:
    name = worker_of(service)
    try:
        await ground.stack.start(name)
    except Exception as error:  # It may die before it is ready: that is what it was started for.
        if _is_running(ground, name):
            raise NotTriedError(f"{name}: {error}") from error
    ground.stack.expect_end(name)


def _is_running(ground: Ground, name: str) -> bool:
    child = ground.stack.members[name].child
    return child is not None and child.exit_code is None


@asynccontextmanager
async def _restarted(ground: Ground, service: str) -> AsyncIterator[None]:
    """The worker runs with the settings of the moment, and afterwards without."""
    name = worker_of(service)
    await ground.restart(name)
    try:
        yield
    finally:
        ground.unset(service)
        await ground.restart(name, signal.SIGKILL)


@asynccontextmanager
async def _stopped(ground: Ground, service: str) -> AsyncIterator[None]:
    """Nothing of the service runs meanwhile."""
    names = (service, worker_of(service))
    for name in names:
        ground.stack.kill(name, signal.SIGTERM)
    for name in names:
        await ground.stack.ended(name)
    yield
    for name in names:
        await ground.stack.start(name)


async def _said(log: Path, began: int, words: bytes) -> bool:
    with log.open("rb") as file:
        file.seek(began)
        return words in file.read()


@contextmanager
def _broken(module: str, cls: str, method: str, *, when: str) -> Iterator[str]:
    """A folder that makes whoever has it on PYTHONPATH a bad release: it fails where this is true of a record `one`."""
    with tempfile.TemporaryDirectory(prefix="oms-chaos-") as folder:
        text = _BROKEN.format(module=module, cls=cls, method=method, when=when)
        (Path(folder) / "sitecustomize.py").write_text(text, encoding="utf-8")
        yield folder


async def _is_open(ground: Ground, service: str) -> bool:
    async with Clients(ground.stack.urls, ground.stack.keys["admin"]) as oms:
        return any(state["opened_at"] is not None for state in await oms.get(service, "/v1/operations/breaker"))


async def _retry_parked(ground: Ground, service: str) -> None:
    """As a person does once the good release is there."""
    async with Clients(ground.stack.urls, ground.stack.keys["admin"]) as oms:

        async def none_left() -> bool:
            return not await retry_parked(oms, service, reason=REASON)

        await until(none_left, seconds=READY_SECONDS, what=f"the parked keys of {service}", every_seconds=2)


async def _retry_quarantined(oms: Clients, service: str) -> int:
    """Have everything tried again that was set aside because its breaker was open; returns how many records that were."""
    path, found = "/v1/operations/quarantined", 0
    async for record in oms.pages(service, path, code="breaker_open"):
        found += 1
        try:
            await oms.post(service, f"{path}/{record['id']}/retry", {"reason": REASON})
        except ApiError as error:
            # It left while we walked, or it is being handled at this moment: the next walk tells.
            if error.status not in {httpx.codes.NOT_FOUND, httpx.codes.SERVICE_UNAVAILABLE}:
                raise
    return found


FAULTS: tuple[Fault, ...] = (
    *(Fault(f"kill_{s}_worker", f"kill -9 of {s}'s worker", _kill(worker_of(s))) for s in SERVICES),
    *(Fault(f"kill_{s}_api", f"kill -9 of {s}'s API", _kill(s)) for s in SERVICES),
    Fault("kill_kafka", "kill -9 and restart of Kafka", _kill("kafka")),
    Fault("kill_postgres", "kill -9 and restart of Postgres", _kill("postgres")),
    Fault("stalled_consumer", "SIGSTOP of a worker past its session, and SIGCONT", _stalled),
    Fault("broker_away", "no broker for two minutes", _broker_away),
    *(
        Fault(f"database_{mood}", f"a worker's database behind a proxy: {mood}", _through_database_proxy(mood))
        for mood in ("slow", "reset", "black_hole")
    ),
    *(
        Fault(f"broker_{mood}", f"a worker's broker behind a proxy: {mood}", _through_broker_proxy(mood))
        for mood in ("slow", "reset", "black_hole")
    ),
    Fault("duplicates", "5 % of the orders come twice", _odd_records(duplicates=0.05)),
    Fault("invalid_of_one_shop", "1 % invalid orders, all of one shop", _odd_records(invalid=0.01, shop=SHOP)),
    Fault("invalid_of_all", "1 % invalid orders, of every shop", _odd_records(invalid=0.01)),
    Fault("poison", "audit fails at one order in a hundred, then is mended", _poison),
    Fault("bad_deployment", "audit fails at everything: the breaker stops it; then the good release", _bad_deployment),
    Fault("bad_shop", "ingest fails at every order of one shop: its breaker stops that shop alone", _bad_shop),
    Fault("disk_full", "the disk of one database is full, then has room again", _disk_full, needs="root and mount"),
    Fault("clock_offset", "a service's clock is an hour ahead, then behind", _wrong_clock(_by_setting)),
    Fault("machine_clock", "likewise, its machine's whole clock", _wrong_clock(_by_libfaketime), needs="libfaketime"),
    Fault("scale", "a service's workers 1, 4, 1", _scale),
    Fault("rolling_restart", "every process, one after the other", _rolling),
    Fault("crash_points", "every worker dies at each point around commit, send and offset commit", _crash_points),
)
