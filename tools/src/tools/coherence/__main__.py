"""`python -m tools.coherence --drained|--live [--stack demo]`: exit status 0 when everything holds."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping

from tools.coherence.checks import CHECKS, SERVICES
from tools.coherence.model import SHOWN, Outcome
from tools.coherence.run import drained, look
from tools.paths import stack_folder


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.coherence",
        description="Checks that nothing is lost, doubled, oversold or unbalanced. Reads only.",
        epilog=(
            "Without --stack the environment says where: KAFKA_BOOTSTRAP_SERVERS, TOPIC_PREFIX, and for each service "
            "DATABASE_URL_INGEST … DATABASE_URL_LEDGER (read-only roles)."
        ),
    )
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--drained", action="store_true", help="nothing is under way: every equality must hold")
    kind.add_argument("--live", action="store_true", help="the system is at work: what must hold at any moment")
    parser.add_argument("--stack", help="the stack in .local/<name> (demo, bench, …)")
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="with --drained: wait so long until nothing is under way"
    )
    parser.add_argument("--only", nargs="+", metavar="CHECK", help="run these checks only")
    options = parser.parse_args()
    unknown = set(options.only or ()) - {check.name for check in CHECKS}
    if unknown:
        parser.error(f"no such check: {', '.join(sorted(unknown))}; there are {', '.join(check.name for check in CHECKS)}")
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    urls, servers, prefix = from_stack(options.stack) if options.stack else _from_environment()
    if options.drained and options.wait:
        await drained(urls, servers, prefix, seconds=options.wait)
    checks = [check for check in CHECKS if (check.live or options.drained) and (not options.only or check.name in options.only)]
    outcomes = await look(urls, servers, prefix, checks)
    for outcome in outcomes:
        _say(outcome)
    failed = [outcome for outcome in outcomes if not outcome.holds]
    print(f"{len(failed)} of {len(outcomes)} checks failed" if failed else f"ALL INVARIANTS HOLD ({len(outcomes)} checks)")
    return 1 if failed else 0


def _say(outcome: Outcome) -> None:
    print(f"{'ok  ' if outcome.holds else 'FAIL'}  {outcome.check.name}: {outcome.check.title}")
    for finding in outcome.findings[:SHOWN]:
        print(f"      {finding.subject}: {finding.detail}")
    if len(outcome.findings) > SHOWN:
        print(f"      … and {len(outcome.findings) - SHOWN} more")


def from_stack(name: str) -> tuple[Mapping[str, str], str, str]:
    """Read-only database URLs, brokers and topic prefix of a running local stack. Exits where there is none."""
    path = stack_folder(name) / "stack.json"
    if not path.exists():
        sys.exit(f"no stack '{name}' is running: {path} is missing. Start it, or leave --stack out.")
    content = json.loads(path.read_text(encoding="utf-8"))
    urls = {service: content["services"][service]["read_only_database_url"] for service in SERVICES}
    return urls, content["kafka"]["bootstrap_servers"], content["kafka"]["topic_prefix"]


def _from_environment() -> tuple[Mapping[str, str], str, str]:
    names = [f"DATABASE_URL_{service.upper()}" for service in SERVICES] + ["KAFKA_BOOTSTRAP_SERVERS"]
    if missing := [name for name in names if name not in os.environ]:
        sys.exit(f"not set: {', '.join(missing)}. Set them, or name a local stack with --stack.")
    urls = {service: os.environ[f"DATABASE_URL_{service.upper()}"] for service in SERVICES}
    return urls, os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ.get("TOPIC_PREFIX", "")


if __name__ == "__main__":
    raise SystemExit(main())
