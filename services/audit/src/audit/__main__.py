from audit.app import SERVICE
from webapi.process import run

raise SystemExit(run(SERVICE))
