"""Every check, from the first order to the last voucher. Each is planted a fault in `tests/e2e`, and fires alone."""

from tools.coherence.checks.books import BOOKS
from tools.coherence.checks.flow import FLOW, SERVICES
from tools.coherence.checks.goods import GOODS
from tools.coherence.checks.orders import ORDERS
from tools.coherence.checks.requests import REQUESTS
from tools.coherence.model import Check

CHECKS: tuple[Check, ...] = (*FLOW, *ORDERS, *REQUESTS, *GOODS, *BOOKS)

__all__ = ["CHECKS", "SERVICES"]
