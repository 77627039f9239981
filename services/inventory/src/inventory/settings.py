"""Settings of inventory: OMS_INVENTORY_…"""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from webapi.settings import EventSettings


class Settings(EventSettings):
    model_config = SettingsConfigDict(env_prefix="OMS_INVENTORY_")

    default_pool: str = Field(default="main", min_length=1, max_length=64)
    """The pool that orders are held against, unless they name a place; which shop sells from which pool comes later."""
    stock_level_interval_ms: int = Field(default=300, ge=50, le=60_000)
    """Shortest time between two `stock.level` records of one key: shops are told often enough, and bursts become one record."""
    stock_level_batch: int = Field(default=100, ge=1, le=5_000)
    """Levels sent per interval at most. Under load keys queue up and coalesce instead of costing more than the orders do."""
    stock_level_sweep_seconds: int = Field(default=300, ge=1, le=86_400)
    """How often levels are looked for that a process died on before it sent them."""
    stuck_retry_seconds: int = Field(default=900, ge=1, le=86_400)
    """When an order that no place could take is offered again by itself: capacity returns with the day, stock with receipts."""
