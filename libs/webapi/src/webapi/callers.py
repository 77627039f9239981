"""Who calls: API keys, the roles they carry, and the role a route asks for.

Keys are random and long, so a plain SHA-256 is a safe way to keep them (nothing to guess, unlike a password).
"""

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request

from telemetry import get_logger
from webapi.problems import Problem

Role = Literal["viewer", "operator", "admin", "channel", "wms", "pii.read"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin", "channel", "wms", "pii.read")
# Personal data in clear is never a by-product of another role.
_IMPLIED: dict[str, frozenset[str]] = {
    "admin": frozenset({"viewer", "operator", "channel", "wms"}),
    "operator": frozenset({"viewer"}),
}
LOOK_SECONDS = 1.0  # How often the key file's time stamp is looked at: a revoked key is refused within this time.
_log = get_logger(__name__)


@dataclass(frozen=True)
class Principal:
    """A caller, by name; `roles` include the implied ones."""

    name: str
    roles: frozenset[str]

    def has(self, role: str) -> bool:
        return role in self.roles


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    principal: Annotated[str, Field(min_length=1, max_length=100)]
    key_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    roles: list[Role]


_ENTRIES = TypeAdapter(list[_Entry])


class CallersError(Exception):
    """The key file cannot be used."""


class Callers:
    """The known keys, read from a file and again whenever it changes. Without a file nobody is known."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._by_digest: list[tuple[bytes, Principal]] = []
        self._seen: tuple[int, int, int] | None = None
        self._looked_at = time.monotonic()
        if path is not None:
            self._read(path)

    def add(self, principal: str, key: str, roles: Iterable[str]) -> None:
        """Know one more caller until the file changes; for tests and tools."""
        self._by_digest = [*self._by_digest, (_digest(key), Principal(principal, expand(roles)))]

    def find(self, key: str) -> Principal | None:
        """Whose key this is. Every known key is compared, in constant time each: the answer's delay tells nothing."""
        self._look()
        digest = _digest(key)
        found = None
        for known, principal in self._by_digest:
            if hmac.compare_digest(known, digest):
                found = principal
        return found

    def _look(self) -> None:
        now = time.monotonic()
        if self._path is None or now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            if _stamp(self._path) != self._seen:
                self._read(self._path)
        except (OSError, CallersError) as error:
            # A half-written file must not lock everybody out, nor let a typing slip go unnoticed.
            _log.error("api_keys_unreadable", reason=str(error))

    def _read(self, path: Path) -> None:
        try:
            stamp = _stamp(path)
            entries = _ENTRIES.validate_python(json.loads(path.read_bytes()))
        except OSError as error:
            raise CallersError(f"{path} cannot be read: {error.strerror}") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CallersError(f"{path} is not JSON: {error}") from None
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise CallersError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        self._by_digest = [
            (bytes.fromhex(entry.key_sha256), Principal(entry.principal, expand(entry.roles))) for entry in entries
        ]
        self._seen = stamp
        _log.info("api_keys_read", callers=len(entries))


@dataclass(frozen=True)
class Requires:
    """A route's declaration that its caller needs one of these roles; use it through `requires`."""

    roles: tuple[str, ...]

    async def __call__(self, request: Request) -> Principal:
        principal = authenticate(request)
        if not principal.roles.intersection(self.roles):
            raise Problem("role_missing", status=403, params={"roles": ", ".join(self.roles)})
        return principal


@dataclass(frozen=True)
class Public:
    """A route's declaration that it needs no key, and why."""

    reason: str

    async def __call__(self) -> None:
        return None


def requires(*roles: str) -> Requires:
    """The dependency of a route for callers who have any of `roles`: `Depends(requires("operator"))`."""
    if not roles or not set(roles) <= set(ROLES):
        raise ValueError(f"roles must be some of {', '.join(ROLES)}")
    return Requires(roles)


def public(reason: str) -> Public:
    """The dependency of a route that checks its caller otherwise: `Depends(public("signed by the WMS"))`."""
    if not reason.strip():
        raise ValueError("say why the route needs no key")
    return Public(reason)


Viewer = Annotated[Principal, Depends(requires("viewer"))]
Operator = Annotated[Principal, Depends(requires("operator"))]
Admin = Annotated[Principal, Depends(requires("admin"))]
Channel = Annotated[Principal, Depends(requires("channel"))]
Wms = Annotated[Principal, Depends(requires("wms"))]
PiiReader = Annotated[Principal, Depends(requires("pii.read"))]


def authenticate(request: Request) -> Principal:
    """The caller by the request's key, looked up once per request."""
    known: Principal | None = request.scope.get("oms.principal")
    if known is not None:
        return known
    callers: Callers = request.app.state.callers
    key = _key_of(request)
    if key is None:
        raise Problem("key_missing", status=401, headers={"WWW-Authenticate": "Bearer"})
    principal = callers.find(key)
    if principal is None:
        raise Problem("key_unknown", status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
    request.scope["oms.principal"] = principal
    return principal


def new_key() -> tuple[str, str]:
    """A fresh key for a caller, and the hash for the key file."""
    key = secrets.token_urlsafe(32)
    return key, _digest(key).hex()


def expand(roles: Iterable[str]) -> frozenset[str]:
    """The roles with those that they imply."""
    given = frozenset(roles)
    return given.union(*(_IMPLIED.get(role, frozenset()) for role in given))


def roles_of(dependencies: Sequence[object]) -> tuple[str, ...] | None:
    """The roles that a route's dependencies declare; () if it is public, None if it declares nothing."""
    for dependency in dependencies:
        if isinstance(dependency, Requires):
            return dependency.roles
        if isinstance(dependency, Public):
            return ()
    return None


def _key_of(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("x-api-key", "").strip() or None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = os.stat(path)  # noqa: PTH116  one call, and it runs beside requests
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
