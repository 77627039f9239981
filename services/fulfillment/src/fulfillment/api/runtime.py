"""The runtime that the routes work through."""

from __future__ import annotations

from starlette.requests import Request

from eventing import Runtime


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime
