"""`python -m inventory`."""

from inventory.app import SERVICE
from webapi.process import run

raise SystemExit(run(SERVICE))
