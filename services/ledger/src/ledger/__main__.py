"""Starts the service: `python -m ledger --role all|api|worker`, `--migrate`, `--print-settings`."""

from ledger.app import SERVICE
from webapi.process import run

raise SystemExit(run(SERVICE))
