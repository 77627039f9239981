"""`python -m tools.wms`: a demo WMS on loopback, for places whose connector is `http`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import uvicorn

from tools.wms.app import DemoWms, build
from tools.wms.floor import Dials


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.wms", description=__doc__)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--oms-url", required=True, help="where fulfillment answers, e.g. http://127.0.0.1:8005")
    parser.add_argument("--secret-env", default="DEMO_WMS_SECRET", help="the environment variable that holds the secret")
    parser.add_argument("--accept-seconds", type=float, default=0.0, help="0: accepts or rejects at once")
    parser.add_argument("--pick-seconds", type=float, default=1.0)
    parser.add_argument("--ship-seconds", type=float, default=1.0, help="from picked to left")
    parser.add_argument("--reject-rate", type=float, default=0.0)
    parser.add_argument("--reject-sku", action="append", default=[], help="reject orders with this SKU; may be repeated")
    parser.add_argument("--short-rate", type=float, default=0.0, help="how often one unit is not found")
    parser.add_argument("--parcels", type=int, default=1, help="the most parcels of one order")
    parser.add_argument("--stops-after-pick", action="store_true", help="stop also what is picked")
    parser.add_argument("--stops-only-whole", action="store_true", help="stop whole orders only")
    parser.add_argument("--pending-stops", action="store_true", help="answer stops by call-back")
    parser.add_argument("--duplicate-rate", type=float, default=0.0, help="how often a call-back is sent twice")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    secret = os.environ.get(given.secret_env, "")
    if not secret:
        sys.stderr.write(f"{given.secret_env} is not set: it holds the secret shared with the OMS\n")
        return 2
    dials = Dials(
        accept_seconds=given.accept_seconds,
        pick_seconds=given.pick_seconds,
        ship_seconds=given.ship_seconds,
        reject_rate=given.reject_rate,
        reject_skus=tuple(given.reject_sku),
        short_rate=given.short_rate,
        parcels=max(1, given.parcels),
        stops_after_pick=given.stops_after_pick,
        stops_only_whole=given.stops_only_whole,
        pending_stops=given.pending_stops,
        duplicate_rate=given.duplicate_rate,
        seed=given.seed,
    )
    wms = DemoWms(dials, oms_url=given.oms_url, secret=secret.encode())
    uvicorn.run(build(wms), host="127.0.0.1", port=given.port, log_level="warning", access_log=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
