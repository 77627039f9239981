"""A small application with one route of each kind."""

from collections.abc import AsyncIterator, Callable
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from webapi.app import create_app
from webapi.callers import Callers, Channel, Operator, Principal, Viewer, public, requires
from webapi.models import StrictModel, UtcTime
from webapi.paging import Page, Paging
from webapi.problems import FieldError, Problem
from webapi.routing import Router, body_limit
from webapi.settings import ServiceSettings
from webapi.texts import register_texts

register_texts({"price_below_cost": ("Must not lie below {cost_minor}.", "不得低于 {cost_minor}。")})


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_SAMPLE_")


class Colour(StrEnum):
    RED = "red"


class Line(StrictModel):
    sku_id: Annotated[str, Field(min_length=1, max_length=10)]
    quantity: Annotated[int, Field(ge=1, le=100)]


class Thing(StrictModel):
    lines: Annotated[list[Line], Field(min_length=1, max_length=500)]
    price_minor: int = 100
    gift: bool = False
    ratio: float = 1.0
    made_at: UtcTime | None = None
    made_on: date | None = None
    thing_id: UUID | None = None
    colour: Colour | None = None
    extra: dict[str, str] = Field(default_factory=dict)

    @field_validator("price_minor")
    @classmethod
    def _above_cost(cls, value: int) -> int:
        if value < 10:
            raise PydanticCustomError("price_below_cost", "too low", {"cost_minor": 10})
        return value


router = Router(prefix="/v1", tags=["things"])


@router.post("/things", status_code=201)
async def add_thing(body: Thing, principal: Operator) -> dict[str, Any]:
    return {"by": principal.name, "made_at": None if body.made_at is None else body.made_at.isoformat()}


@router.post("/many", dependencies=[Depends(body_limit(3 * 1024 * 1024))])
async def add_many(body: list[Thing], principal: Annotated[Principal, Depends(requires("channel", "operator"))]) -> int:
    return len(body)


@router.post("/raw")
async def raw(request: Request, principal: Channel) -> int:
    return len(await request.body())


@router.get("/things/{thing_id}")
async def get_thing(thing_id: str, principal: Viewer, at: UtcTime | None = None) -> datetime | str | None:
    if thing_id == "missing":
        raise Problem("record_not_found", status=404)
    if thing_id == "busy":
        raise Problem("unavailable", status=503, retry_after_seconds=7, errors=[FieldError("a", "field_missing")])
    if thing_id == "broken":
        raise RuntimeError("secret internals of 13812345678")
    if thing_id == "away":
        raise ConnectionRefusedError("postgresql://u:p@db")
    return at or thing_id


@router.get("/page")
async def get_page(paging: Paging, principal: Viewer) -> Page[int]:
    return Page(items=list(range(paging.limit)), next=paging.next)


@router.post("/callbacks", dependencies=[Depends(public("signed by the sender"))])
async def callback(body: Line) -> str:
    return body.sku_id


KEYS = {name: f"key-of-{name}" for name in ("viewer", "operator", "admin", "channel", "pii")}


def a_callers() -> Callers:
    callers = Callers()
    for name, key in KEYS.items():
        callers.add(name, key, ["pii.read" if name == "pii" else name])
    return callers


def an_app(**options: Any) -> FastAPI:
    settings = Settings(database_url=SecretStr("postgresql://u:p@127.0.0.1:1/none"))
    return create_app(
        **{
            "service": "sample",
            "title": "Sample",
            "version": "1",
            "settings": settings,
            "routers": [router],
            "callers": a_callers(),
        }
        | options
    )


@pytest.fixture
def make_app() -> Callable[..., FastAPI]:
    return an_app


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(an_app()), base_url="http://test") as client:
        yield client


@pytest.fixture
def key() -> Callable[[str], dict[str, str]]:
    return lambda name: {"Authorization": f"Bearer {KEYS[name]}"}
