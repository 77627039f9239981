"""`python -m ingest --role all|api|worker`, `--migrate`, `--print-settings`."""

from ingest.app import SERVICE
from webapi.process import run

raise SystemExit(run(SERVICE))
