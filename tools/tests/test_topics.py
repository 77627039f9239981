"""Topics on a real broker."""

import dataclasses
from collections.abc import Awaitable, Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts.topics import TOPICS
from tools.topics import TopicError, create_topics

Eventually = Callable[..., Awaitable[None]]
pytestmark = pytest.mark.kafka


async def _settings(bootstrap: str, name: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        return {entry[0]: entry[1] for entry in response.resources[0][4]}
    finally:
        await admin.close()


async def test_every_topic_of_the_registry_is_made_once(kafka_bootstrap: str, topic_prefix: str) -> None:
    """Fails when a topic of the registry is left out, or a second run creates or refuses anything."""
    first = await create_topics(kafka_bootstrap, prefix=topic_prefix, order_partitions=4)
    second = await create_topics(kafka_bootstrap, prefix=topic_prefix, order_partitions=4)
    assert set(first.created) == {topic_prefix + name for name in TOPICS}
    assert second.created == ()
    assert set(second.kept) == set(first.created)


async def test_topics_get_their_policy_retention_and_clock(
    kafka_bootstrap: str, topic_prefix: str, eventually: Eventually
) -> None:
    """Fails when the settings of the registry do not reach the broker, new or changed later."""
    await create_topics(kafka_bootstrap, prefix=topic_prefix, order_partitions=4)
    orders = await _settings(kafka_bootstrap, f"{topic_prefix}channel.orders")
    assert orders["message.timestamp.type"] == "LogAppendTime"
    assert orders["retention.ms"] == str(TOPICS["channel.orders"].retention_hours * 3_600_000)
    assert (await _settings(kafka_bootstrap, f"{topic_prefix}catalog.item"))["cleanup.policy"] == "compact"

    longer = dataclasses.replace(TOPICS["channel.orders"], retention_hours=500)
    await create_topics(kafka_bootstrap, prefix=topic_prefix, order_partitions=4, topics=[longer])

    async def the_change_is_there() -> None:
        orders = await _settings(kafka_bootstrap, f"{topic_prefix}channel.orders")
        assert orders["retention.ms"] == str(500 * 3_600_000)
        assert orders["message.timestamp.type"] == "LogAppendTime"

    await eventually(the_change_is_there)  # The broker shows it a moment after it has answered.


async def test_another_partition_count_is_refused(kafka_bootstrap: str, topic_prefix: str) -> None:
    """Fails when a second run with another count passes: keys would change their partition."""
    await create_topics(kafka_bootstrap, prefix=topic_prefix, order_partitions=4)
    with pytest.raises(TopicError, match=r"has 4 partitions instead of 6"):
        await create_topics(kafka_bootstrap, prefix=topic_prefix, order_partitions=6)
