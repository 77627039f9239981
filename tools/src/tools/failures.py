"""What a run on a stack may end with and says in one line; anything else is a defect of the tool and shows its trace."""

import asyncpg
import httpx
from aiokafka.errors import KafkaError

from tools.broker_jars import JarError
from tools.client import ApiError
from tools.processes import ProcessError
from tools.stack import StackError
from tools.topics import TopicError

FAILURES = (
    StackError,
    ProcessError,
    JarError,
    TopicError,
    TimeoutError,
    ApiError,
    KafkaError,
    asyncpg.PostgresError,
    httpx.HTTPError,
    OSError,
)
