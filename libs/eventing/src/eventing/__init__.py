"""The one place where Kafka and Postgres meet: consumer loop, inbox, outbox, relay, tasks, the four fates, a fake bus.

At-least-once between services, exactly-once effects inside them, order kept per key. Knows no order, SKU, shipment or voucher.
"""

from eventing import migrations, tables
from eventing.database import create_engine
from eventing.envelope import Received
from eventing.errors import (
    EventingError,
    EventTooLargeError,
    InvalidRecordError,
    Retry,
    UnavailableError,
)
from eventing.kafka import KafkaBroker
from eventing.observe import NullObserver, Observer
from eventing.operations import (
    BreakerState,
    Operations,
    OverdueItem,
    ParkedKey,
    ParkedRecord,
    QuarantinedRecord,
)
from eventing.routes import (
    Call,
    Check,
    CompactedRoute,
    Consumer,
    ForeignRoute,
    NewTask,
    RawRoute,
    Route,
    Task,
    Timer,
    Waiting,
)
from eventing.runtime import Runtime
from eventing.sealing import AesGcmSealer, Sealer
from eventing.settings import RuntimeSettings
from eventing.tables import RuntimeTables
from eventing.work import UnitOfWork, current_trace

__all__ = [
    "AesGcmSealer",
    "BreakerState",
    "Call",
    "Check",
    "CompactedRoute",
    "Consumer",
    "EventTooLargeError",
    "EventingError",
    "ForeignRoute",
    "InvalidRecordError",
    "KafkaBroker",
    "NewTask",
    "NullObserver",
    "Observer",
    "Operations",
    "OverdueItem",
    "ParkedKey",
    "ParkedRecord",
    "QuarantinedRecord",
    "RawRoute",
    "Received",
    "Retry",
    "Route",
    "Runtime",
    "RuntimeSettings",
    "RuntimeTables",
    "Sealer",
    "Task",
    "Timer",
    "UnavailableError",
    "UnitOfWork",
    "Waiting",
    "create_engine",
    "current_trace",
    "migrations",
    "tables",
]
