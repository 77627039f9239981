"""Stand-ins for the services: real processes that migrate, listen, get ready and die as they are told."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

STANDIN = """
import http.server, json, os, sys
name = __spec__.name.partition(".")[0]
prefix = f"OMS_{name.upper()}_"
settings = {key: value for key, value in os.environ.items() if key.startswith("OMS_")}
for number in range(40):
    print(f"{name} line {number}")
if "--migrate" in sys.argv:
    sys.exit(3 if prefix + "BAD_MIGRATION" in settings else 0)
if prefix + "BAD_START" in settings:
    sys.exit("no such setting: 收货人")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if prefix + "NEVER_READY" in settings else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"argv": sys.argv[1:], "settings": settings}).encode())
    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(settings[prefix + "HTTP_PORT"])), Handler).serve_forever()
"""
SERVICES = ("alpha", "beta")


@pytest.fixture(scope="session")
def standins() -> Iterator[Mapping[str, str]]:
    """Environment in which `python -m alpha` and `python -m beta` are such services."""
    folder = Path(tempfile.mkdtemp(prefix="oms-standins-"))
    for name in SERVICES:
        (folder / name).mkdir()
        (folder / name / "__main__.py").write_text(STANDIN, encoding="utf-8")
    yield {"PYTHONPATH": str(folder)}
    shutil.rmtree(folder)


@pytest.fixture
def stack_folder() -> Iterator[Path]:
    """A folder for one test's stack."""
    with state_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def shared_stack_folder() -> Iterator[Path]:
    """A folder for the stack that the tests of a module share."""
    with state_folder() as folder:
        yield folder


@contextlib.contextmanager
def state_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="oms-stack-"))
    folder.chmod(0o711)  # As root, Postgres runs under another account and must get through.
    yield folder
    shutil.rmtree(folder)
