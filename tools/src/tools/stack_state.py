"""What a stack leaves on disk for others: `stack.json`, the API keys; and how to stop one from outside."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.processes import Record, stop_all

STOP_SECONDS = 45.0  # Services drain (up to 25 s), then the broker, then the database.

# Who may do what; the roles are those of libs/webapi.
PRINCIPALS: dict[str, tuple[str, ...]] = {
    "admin": ("admin", "operator", "viewer", "channel", "wms", "pii.read"),
    "operator": ("operator",),
    "channel": ("channel",),
    "viewer": ("viewer",),
    "wms": ("wms",),
}
# Settings without a default: secrets of 32 bytes. Two services that name the same shared one get the same value.
SECRETS: dict[str, tuple[str, ...]] = {
    "ingest": ("RECEIVER_KEK", "SEAL_KEY", "TOKEN_KEY"),
    "audit": ("SEAL_KEY",),
    "inventory": ("SEAL_KEY",),
    "router": ("SEAL_KEY",),
    "fulfillment": ("RECEIVER_KEK", "SEAL_KEY"),
    "ledger": ("SEAL_KEY",),
    "wms": ("SECRET",),
}
SHARED_SECRETS = frozenset({"RECEIVER_KEK"})
SECRET_BYTES = 32


@dataclasses.dataclass(frozen=True)
class State:
    """The content of a `stack.json`."""

    name: str
    supervisor: Record | None
    """None: nobody watches it; it was left running on purpose."""
    processes: tuple[tuple[Record, str, int], ...]
    """Each with its log file and port."""
    content: Mapping[str, Any]

    @property
    def records(self) -> list[Record]:
        return [record for record, _, _ in self.processes]

    def alive(self) -> list[str]:
        return [record.name for record in self.records if record.find()]


def read_state(folder: Path) -> State | None:
    """Return the state that a stack wrote last, or None; whether its processes live is another question."""
    try:
        content = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    supervisor = content["supervisor"]
    return State(
        name=content["name"],
        supervisor=None if supervisor is None else Record(**supervisor),
        processes=tuple((Record(**each["process"]), each["log"], each["port"]) for each in content["processes"]),
        content=content,
    )


def write_state(
    folder: Path,
    *,
    name: str,
    supervisor: Record | None,
    processes: Sequence[tuple[Record, Path, int]],
    content: Mapping[str, Any],
) -> None:
    _write_private(
        folder / "stack.json",
        {
            "name": name,
            "written_at": datetime.now(UTC).isoformat(),
            "supervisor": None if supervisor is None else supervisor.to_json(),
            "processes": [{"process": record.to_json(), "log": str(log), "port": port} for record, log, port in processes],
            **content,
        },
    )


def remove_state(folder: Path) -> None:
    (folder / "stack.json").unlink(missing_ok=True)


def ensure_keys(folder: Path) -> dict[str, str]:
    """Make API keys once per folder: `keys.json` in clear for the person, `api_keys.json` hashed for the services."""
    clear = folder / "keys.json"
    keys: dict[str, str] = json.loads(clear.read_text(encoding="utf-8")) if clear.exists() else {}
    if keys.keys() != PRINCIPALS.keys():
        keys = {principal: f"oms_{secrets.token_urlsafe(32)}" for principal in PRINCIPALS}
    _write_private(clear, keys)
    hashed = [
        {"principal": principal, "key_sha256": hashlib.sha256(key.encode()).hexdigest(), "roles": PRINCIPALS[principal]}
        for principal, key in keys.items()
    ]
    _write_private(folder / "api_keys.json", hashed)
    return keys


def ensure_secrets(folder: Path) -> dict[str, dict[str, str]]:
    """Make the services' secrets once per folder, as settings per service; data sealed in an earlier run stays readable."""
    file = folder / "secrets.json"
    values: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    settings: dict[str, dict[str, str]] = {}
    for service, names in SECRETS.items():
        for name in names:
            key = name if name in SHARED_SECRETS else f"{service} {name}"
            value = values.setdefault(key, base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())
            settings.setdefault(service, {})[f"OMS_{service.upper()}_{name}"] = value
    _write_private(file, values)
    return settings


def stop_from_outside(folder: Path) -> list[str]:
    """Stop a stack: ask its supervisor if it has one, then whatever is still there. Returns what was running."""
    state = read_state(folder)
    if state is None:
        return []
    running = state.alive()
    if state.supervisor is not None and state.supervisor.find():
        # The supervisor alone, not its group: it may share that with a shell or a test run.
        os.kill(state.supervisor.pid, state.supervisor.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while state.supervisor.find() or state.alive():
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
    stop_all(state.records, grace_seconds=STOP_SECONDS)
    remove_state(folder)
    return running


def _write_private(path: Path, content: object) -> None:
    """Write whole or not at all, readable by its owner alone: there are passwords in it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.touch(mode=0o600)
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
