from webapi.process import run

from audit.app import SERVICE

raise SystemExit(run(SERVICE))
