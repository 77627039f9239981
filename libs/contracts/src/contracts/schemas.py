"""JSON Schemas and golden examples beside the models: written, checked for drift, checked for breaking change.

`python -m contracts.schemas --check` fails when a snapshot in `libs/contracts/schemas` is not what the model gives, when an
example does not decode, or when a topic has none. `--write` refuses a change that would break a reader or a writer of the same
version: give the event a new `VERSION` instead. `--base REV` compares with the snapshots of that git revision as well.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts.envelope import Event
from contracts.topics import TOPICS

HOME = Path(__file__).resolve().parents[2]
SCHEMAS = HOME / "schemas"
EXAMPLES = HOME / "examples"
_PROSE = {"title", "description", "default", "examples"}


def events() -> tuple[type[Event], ...]:
    """Every event class of the registry, in topic order."""
    return tuple(event for topic in TOPICS.values() for event in topic.events)


def file_name(event: type[Event]) -> str:
    return f"{event.TOPIC}.{event.TYPE}.v{event.VERSION}.json"


def schema_of(event: type[Event]) -> dict[str, Any]:
    """The JSON Schema of what is on the wire (not of what the validator would also take)."""
    schema = event.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:oms:{event.TYPE}:{event.VERSION}", **schema}


def example_of(event: type[Event]) -> bytes:
    """The golden example, as bytes on the topic."""
    return (EXAMPLES / file_name(event)).read_bytes()


def breaking_changes(old: dict[str, Any], new: dict[str, Any], where: str = "") -> Iterator[str]:
    """What differs beyond added optional fields and prose. Widening breaks old readers, narrowing old records: both count."""
    old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
    for name in old_fields:
        at = f"{where}.{name}".lstrip(".")
        if name not in new_fields:
            yield f"{at}: removed"
        else:
            yield from breaking_changes(old_fields[name], new_fields[name], at)
    for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
        # A serialised schema lists every field as required that is always written; only a field old records lack is a break.
        if name not in old_fields and "default" not in new_fields.get(name, {}):
            yield f"{where}.{name}".lstrip(".") + ": new and required"
    for name, definition in old.get("$defs", {}).items():
        if name in new.get("$defs", {}):
            yield from breaking_changes(definition, new["$defs"][name], f"{where}#{name}")
    for key in sorted((old.keys() | new.keys()) - _PROSE - {"properties", "required", "$defs"}):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            yield from breaking_changes(old[key], new[key], f"{where}[{key}]")
        elif old.get(key) != new.get(key):
            yield f"{where or 'schema'}: {key} was {old.get(key)!r}, is {new.get(key)!r}"


def _stored(name: str, base: str | None = None) -> dict[str, Any] | None:
    if base is None:
        path = SCHEMAS / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    shown = subprocess.run(  # noqa: S603  the revision comes from the command line of a developer
        ["git", "show", f"{base}:./schemas/{name}"],  # noqa: S607
        cwd=HOME,
        capture_output=True,
        check=False,
    )
    return json.loads(shown.stdout) if shown.returncode == 0 else None


def problems(base: str | None = None) -> list[str]:
    """Everything wrong with snapshots and examples, one line each; empty is good."""
    found: list[str] = []
    for event in events():
        name, schema = file_name(event), schema_of(event)
        stored = _stored(name)
        if stored is None:
            found.append(f"{name}: no schema snapshot; run `make schemas`")
        elif stored != schema:
            breaks = list(breaking_changes(stored, schema))
            found.append(f"{name}: the model has moved away from its snapshot; run `make schemas`")
            found.extend(f"{name}: breaking: {line}" for line in breaks)
        if base is not None and (released := _stored(name, base)) is not None:
            found.extend(f"{name}: breaking against {base}: {line}" for line in breaking_changes(released, schema))
        if not (EXAMPLES / name).exists():
            found.append(f"{name}: no golden example in {EXAMPLES.relative_to(HOME.parent)}")
        else:
            found.extend(f"{name}: example: {line}" for line in _example_problems(event))
    known = {file_name(event) for event in events()}
    found.extend(
        f"{path.name}: belongs to no event"
        for folder in (SCHEMAS, EXAMPLES)
        for path in sorted(folder.glob("*.json"))
        if path.name not in known
    )
    return found


def _example_problems(event: type[Event]) -> Iterator[str]:
    body = example_of(event)
    again = json.loads(event.model_validate_json(body).model_dump_json())
    if again != json.loads(body):
        yield "does not come back as it went in"


def write() -> list[str]:
    """Write the snapshots; returns the breaking changes that were refused."""
    refused: list[str] = []
    SCHEMAS.mkdir(exist_ok=True)
    for event in events():
        name, schema = file_name(event), schema_of(event)
        stored = _stored(name)
        breaks = list(breaking_changes(stored, schema)) if stored else []
        if breaks:
            refused.extend(f"{name}: {line}" for line in breaks)
            continue
        text = json.dumps(schema, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        (SCHEMAS / name).write_text(text, encoding="utf-8")
    return refused


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m contracts.schemas", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="fail on drift, breaking change, a missing or broken example")
    what.add_argument("--write", action="store_true", help="write the snapshots; refuse breaking changes")
    parser.add_argument("--base", help="also compare with the snapshots of this git revision")
    options = parser.parse_args()
    lines = write() if options.write else problems(options.base)
    for line in lines:
        sys.stderr.write(line + "\n")
    if options.write and lines:
        sys.stderr.write("refused: give the event a new VERSION, or delete the snapshot of a version that was never released\n")
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
