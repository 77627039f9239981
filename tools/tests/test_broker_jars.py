"""Where the broker's jars come from, and what happens when they are not what the lock file names."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.broker_jars import JarError, fetch_jars, locked_jars


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mirror of the repository that serves this folder, and an empty cache."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MAVEN_REPO_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("OMS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield folder
        server.shutdown()


def test_a_jar_that_is_not_the_locked_one_is_refused_and_not_kept(mirror: Path, tmp_path: Path) -> None:
    """Fails when the hash is not compared, or a bad file stays in the cache for the next run."""
    for jar in locked_jars():
        path = mirror / jar.path_in_repository
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"something else")
    with pytest.raises(JarError, match=r"is not what kafka\.lock\.toml names"):
        fetch_jars()
    assert list((tmp_path / "cache" / "jars").iterdir()) == []


@pytest.mark.usefixtures("mirror")
def test_a_mirror_without_the_jars_is_one_line_that_says_what_to_do() -> None:
    """Fails when the mirror's address is not used, or the way out is not named."""
    with pytest.raises(JarError, match="set MAVEN_REPO_URL") as caught:
        fetch_jars()
    assert "\n" not in str(caught.value)


def test_kafka_and_its_clients_have_one_version() -> None:
    """Fails when the lock file is made without naming the clients: an older one then comes along."""
    names = [jar.name for jar in locked_jars()]
    assert len([name for name in names if name.startswith("kafka-clients-")]) == 1
    assert {name.rpartition("-")[2] for name in names if name.startswith("kafka")} == {"4.1.2.jar"}
