"""`python -m fulfillment --role all|api|worker`, `--migrate`, `--print-settings`."""

from fulfillment.app import SERVICE
from webapi.process import run

raise SystemExit(run(SERVICE))
