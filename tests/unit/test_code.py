"""The fingerprint of what a worker would run."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle.agent.code import LENGTH, fingerprint


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("app", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "app" / "tasks.py").write_text("answer = 42\n")
    (tmp_path / "notes.py").write_text("")
    return tmp_path


def test_the_same_code_is_the_same(checkout: Path) -> None:
    first = fingerprint(checkout)
    assert len(first) == LENGTH
    (checkout / "app" / "tasks.py").touch()
    assert fingerprint(checkout) == first


@pytest.mark.parametrize("path", ["app/tasks.py", "app/new.py"])
def test_a_changed_or_new_module_is_other_code(checkout: Path, path: str) -> None:
    first = fingerprint(checkout)
    (checkout / path).write_text("answer = 43\n")
    assert fingerprint(checkout) != first


def test_a_renamed_module_is_other_code(checkout: Path) -> None:
    first = fingerprint(checkout)
    (checkout / "app" / "tasks.py").rename(checkout / "app" / "jobs.py")
    assert fingerprint(checkout) != first


@pytest.mark.parametrize("path", ["tests/test_app.py", "notes.py", "app/page.html"])
def test_what_no_worker_imports_is_left_out(checkout: Path, path: str) -> None:
    first = fingerprint(checkout)
    (checkout / path).write_text("something")
    assert fingerprint(checkout) == first
