"""Where things lie: the checkout, its `.local/` folders, and the cache that all checkouts of a person share."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def repository_root() -> Path:
    """The checkout; the tools that start things run from one."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "uv.lock").exists():
        raise FileNotFoundError(
            "this tool runs from a checkout of the repository (`make bootstrap`), not from an installed copy."
        )
    return root


def local_settings_folder() -> Path:
    """Settings of Kafka and Postgres on one machine, and the lock file of the broker's jars."""
    return repository_root() / "deploy" / "local"


def stack_folder(name: str) -> Path:
    return repository_root() / ".local" / name


def cache_folder() -> Path:
    return Path(os.environ.get("OMS_CACHE") or platformdirs.user_cache_dir("oms"))
