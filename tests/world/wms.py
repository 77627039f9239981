"""A WMS in the same process that does nothing by itself: its floor is that of the demo WMS, its steps are a test's."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from fulfillment.signature import signed_headers
from tools.wms.floor import Dials, Floor, Job, event_id

from .services import WMS_SECRET
from .world import World

BASE_URL = "http://wms"
DIALS = Dials(reject_rate=0.1, short_rate=0.2, parcels=2)
FOR_GOOD = frozenset((200, 409))
"""Answers to a call-back that end it; the others ask for it again."""


@dataclass(slots=True)
class StepwiseWms:
    """Answers what fulfillment asks, at once or by call-back; call-backs wait until they are sent, in order per job."""

    floor: Floor = field(default_factory=lambda: Floor(DIALS))
    letters: list[tuple[Job, dict[str, Any]]] = field(default_factory=list)
    deaf: int = 0
    """How many answers from here on get lost on the way back."""

    def reset(self, seed: int) -> None:
        self.floor = Floor(Dials(**{name: getattr(DIALS, name) for name in Dials.__slots__} | {"seed": seed}))
        self.letters.clear()
        self.deaf = 0

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def step(self, draw: random.Random) -> bool:
        """Let the floor do one thing; whether there was one to do."""
        jobs = [job for job in self.floor.jobs.values() if job.state in ("accepted", "picked")]
        if not jobs:
            return False
        job = draw.choice(jobs)
        if job.state == "accepted":
            if short := self.floor.pick(job):
                self._write(job, "short_pick", "short", lines=short)
        else:
            parcels = self.floor.ship(job)
            for number, lines in enumerate(parcels, 1):
                final = number == len(parcels)
                self._write(job, "shipped", f"parcel {number}", parcels=[{"lines": lines}], final=final)
        return True

    async def say(self, world: World, draw: random.Random) -> bool:
        """Send the oldest call-back of a job, sometimes twice; whether there was one."""
        oldest = {job.fulfilment_order_id: (job, event) for job, event in reversed(self.letters)}
        if not oldest:
            return False
        job, event = draw.choice(list(oldest.values()))
        for _ in range(draw.choice((1, 1, 1, 2))):
            status = await self._post(world, job, event)
        if status in FOR_GOOD:
            self.letters.remove((job, event))
        return True

    async def _post(self, world: World, job: Job, event: dict[str, Any]) -> int:
        path = f"/v1/wms/{quote(job.place_id, safe='')}/events"
        event.setdefault("occurred_at", world.clock.now().isoformat())  # Told again, it happened when it happened.
        body = json.dumps(event).encode()
        headers = {"Content-Type": "application/json"}
        headers |= signed_headers(WMS_SECRET.encode(), now=world.clock.now(), method="POST", path=path, body=body)
        response = await world.http("fulfillment").post(path, content=body, headers=headers)
        early = response.status_code == 409 and response.json().get("code") == "order_not_submitted"
        if response.status_code not in FOR_GOOD:
            raise AssertionError(f"{event['kind']} of the WMS was answered {response.status_code} {response.text[:300]}")
        return 425 if early else response.status_code

    def _write(self, job: Job, kind: str, what: str, **more: Any) -> None:
        event = {"event_id": event_id(job, what), "fulfilment_order_id": job.fulfilment_order_id, "kind": kind, **more}
        self.letters.append((job, event))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if request.url.path.endswith("/cancellation"):
            answer = self._stop(body)
        else:
            _, _, answer = self.floor.receive(body)
        if self.deaf:
            self.deaf -= 1
            raise httpx.ReadTimeout("the answer got lost", request=request)
        return httpx.Response(200, json=answer)

    def _stop(self, body: dict[str, Any]) -> dict[str, Any]:
        job, stop_id = self.floor.jobs[body["fulfilment_order_id"]], body["stop_id"]
        known = stop_id in job.stops
        answer = self.floor.stop(job, stop_id, body["lines"])
        if random.Random(stop_id).random() < 0.5:
            return answer
        if not known:
            kind = "stopped" if answer["outcome"] == "stopped" else "stop_refused"
            lines = {"lines": answer["lines"]} if kind == "stopped" else {}
            self._write(job, kind, f"stop {stop_id}", stop_id=stop_id, **lines)
        return {"outcome": "pending"}
