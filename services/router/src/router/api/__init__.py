"""Router over HTTP: why an order went where it went, what would be decided, the policy and the freight tables."""

from router.api import decisions, policies

routers = [decisions.router, policies.router]

__all__ = ["routers"]
