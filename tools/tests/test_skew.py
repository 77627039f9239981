"""What the walk between two releases decides without a stack."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.skew.progress import longest_pause
from tools.skew.release import ReleaseError, find_base, head
from tools.skew.run import Passage, Report


def test_a_service_that_never_moved_paused_the_whole_time() -> None:
    """Fails when no progress at all looks like no pause."""
    assert longest_pause([], 10.0, 25.0) == 15.0


def test_the_end_of_the_window_counts() -> None:
    """Fails when a service that stopped for good is measured up to its last record only."""
    assert longest_pause([3.0, 11.0, 12.0], 10.0, 20.0) == 8.0


def test_nothing_tried_does_not_hold() -> None:
    """Fails when an empty report, or one that never asked for coherence, passes."""
    assert not Report("a", "b").holds
    assert not Report("a", "b", [Passage("router", "upgrade", "passed")], coherent_rolled_back=True).holds
    assert Report("a", "b", [Passage("router", "upgrade", "passed")], coherent_rolled_back=True, coherent_upgraded=True).holds
    assert not Report(
        "a", "b", [Passage("router", "upgrade", "failed")], coherent_rolled_back=True, coherent_upgraded=True
    ).holds


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    _git(tmp_path, "init", "-q")
    _commit(tmp_path, "services/a.py")
    return tmp_path


def test_a_clone_of_one_commit_has_no_older_release(clone: Path) -> None:
    """Fails when a release is walked against itself."""
    with pytest.raises(ReleaseError):
        find_base(None, clone)
    with pytest.raises(ReleaseError):
        find_base("v9", clone)


def test_the_newest_tag_is_the_release_before_else_the_last_change_of_code(clone: Path) -> None:
    """Fails when a commit of documents is taken for a release, or a tag is passed over."""
    first = _git(clone, "rev-parse", "HEAD")
    _commit(clone, "docs/a.md")
    _commit(clone, "services/b.py")
    assert find_base(None, clone) == first
    _git(clone, "tag", "v1.0.0", "HEAD~1")
    assert find_base(None, clone) == _git(clone, "rev-parse", "HEAD~1")
    assert not head(clone).endswith("+")
    (clone / "services/b.py").write_text("changed", encoding="utf-8")
    assert head(clone).endswith("+")


def _commit(where: Path, name: str) -> None:
    (where / name).parent.mkdir(exist_ok=True)
    (where / name).write_text(name, encoding="utf-8")
    _git(where, "add", name)
    _git(where, "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-q", "-m", name)


def _git(where: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True).stdout.strip()
