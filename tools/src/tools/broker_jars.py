"""The jars of Apache Kafka: what the lock file names, fetched once, checked by SHA-256, kept in a cache that checkouts share.

`python -m tools.broker_jars lock` resolves them anew with jgo and rewrites the lock file; nothing else trusts the network:
jgo itself compares only SHA-1 sums that come from the same server, and only warns.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import ssl
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import certifi
import httpx
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.env import LockFile
from jgo.maven import MavenContext
from jgo.parse import Coordinate

from tools.paths import cache_folder, local_settings_folder

KAFKA_VERSION = "4.1.2"
LOG4J_VERSION = "2.25.5"  # The one kafka_2.13's own dependencies name.
WANTED = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # By name: a bill of materials among the dependencies would choose an older one.
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
    f"org.apache.logging.log4j:log4j-core:{LOG4J_VERSION}",
    f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}",
)
PARALLEL_DOWNLOADS = 4
TIMEOUT_SECONDS = 60.0

Progress = Callable[[int], None]
"""Called with the bytes fetched so far, from several threads."""


class JarError(Exception):
    """A jar could not be had, or is not the one that the lock file names."""


@dataclasses.dataclass(frozen=True)
class Jar:
    path_in_repository: str
    sha256: str

    @property
    def name(self) -> str:
        return self.path_in_repository.rpartition("/")[2]


def lock_path() -> Path:
    return local_settings_folder() / "kafka.lock.toml"


def repository_url() -> str:
    return (os.environ.get("MAVEN_REPO_URL") or str(MAVEN_CENTRAL_URL)).rstrip("/")


def locked_jars() -> list[Jar]:
    jars = []
    for dependency in LockFile.load(lock_path()).dependencies:
        if not dependency.sha256:
            raise JarError(f"{lock_path().name} has no hash for {dependency.artifactId}: make it anew.")
        folder = "/".join((*dependency.groupId.split("."), dependency.artifactId, dependency.version))
        jars.append(Jar(f"{folder}/{dependency.artifactId}-{dependency.version}.jar", dependency.sha256))
    return jars


def fetch_jars(progress: Progress | None = None) -> list[Path]:
    """Return the jars' paths, fetching those that are not yet in the cache.

    Errors: JarError, with one line that says what to do.
    """
    folder = cache_folder() / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    jars = locked_jars()
    # The name carries the hash, so another version of the lock file finds its own file and never a wrong one.
    paths = {jar: folder / f"{jar.sha256[:16]}-{jar.name}" for jar in jars}
    missing = [jar for jar, path in paths.items() if not path.exists()]
    if missing:
        count = _Counter(progress)
        with (
            httpx.Client(verify=_trust(), timeout=TIMEOUT_SECONDS, follow_redirects=True) as client,
            ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool,
        ):
            # A list, so that the first failure is raised here.
            list(pool.map(lambda jar: _fetch(client, jar, paths[jar], count), missing))
    return list(paths.values())


def _fetch(client: httpx.Client, jar: Jar, path: Path, count: _Counter) -> None:
    url = f"{repository_url()}/{jar.path_in_repository}"
    digest = hashlib.sha256()
    # Beside its place and renamed when whole: a checkout next door may be fetching the same file.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as part:
        try:
            with client.stream("GET", url) as response:
                response.raise_for_status()
                for chunk in response.iter_bytes():
                    digest.update(chunk)
                    part.write(chunk)
                    count.add(len(chunk))
            if digest.hexdigest() != jar.sha256:
                raise JarError(f"{jar.name}: what the repository sent is not what {lock_path().name} names; nothing kept.")
            Path(part.name).replace(path)
        except httpx.HTTPError as error:
            raise JarError(
                f"cannot fetch {jar.name} ({_first_line(error)}): "
                "check the network, or set MAVEN_REPO_URL to a mirror of Maven Central."
            ) from error
        finally:
            Path(part.name).unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]


class _Counter:
    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._bytes = 0

    def add(self, count: int) -> None:
        self._bytes += count  # A lost update would only make the shown figure a little smaller.
        if self._progress is not None:
            self._progress(self._bytes)


def _trust() -> ssl.SSLContext:
    """Trust what the system trusts (a company's mirror may have its own authority) and the well-known authorities."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def write_lock() -> Path:
    """Resolve `WANTED` with jgo and write every jar with its SHA-256 to the lock file."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(
            repo_cache=Path(folder), remote_repos={"central": repository_url()}, timeout=int(TIMEOUT_SECONDS)
        )
        wanted = [dataclasses.replace(Coordinate.parse(text), scope="compile") for text in WANTED]
        inputs, others = context.resolver.resolve([context.create_dependency(each) for each in wanted])
        resolved = [*inputs, *(each for each in others if each.scope in ("compile", "runtime"))]
        resolved.sort(key=lambda each: (each.groupId, each.artifactId))
        lock = LockFile.from_resolved_dependencies(resolved, environment_name="kafka")
        lock.save(lock_path())
    return lock_path()


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit("usage: python -m tools.broker_jars lock")
    print(write_lock())
