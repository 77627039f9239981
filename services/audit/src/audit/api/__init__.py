"""Audit over HTTP: what is held and why, releasing and rejecting, rules, the blacklist, cases."""

from audit.api import blacklist, cases, holds, rules
from webapi.routing import Router

router = Router(prefix="/v1")
for part in (holds, rules, blacklist, cases):
    router.include_router(part.router)
