"""The documents say what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from crm.env import Env
from lifecycle.states import diagram

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, *DOCS.rglob("*.md")]


def test_the_state_diagram_is_the_transition_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in (DOCS / "architecture.md").read_text()


def test_every_dependency_says_why() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[=<>;]", one)[0].strip() for one in wanted}
    text = (DOCS / "adr" / "0002-dependencies.md").read_text()
    assert set(re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)) == names


def test_the_readmes_name_every_environment_variable() -> None:
    fields = Env.model_fields.values()
    names = {
        getattr(field.validation_alias, "choices", [field.validation_alias])[0] for field in fields
    }
    for readme in READMES:
        rows = set(re.findall(r"^\| `([A-Z_]+)` \|", readme.read_text(), re.MULTILINE))
        assert rows == names - {"MUSTER_PART"}, readme.name  # which `up` sets itself


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_files_that_pages_name_exist() -> None:
    named = re.compile(r"`((?:crm|lifecycle|sync|tests|docs|locale)/[\w./-]+)[`:]")
    for page in PAGES:
        for path in named.findall(page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_both_readmes_have_the_same_shape() -> None:
    """Equal: headings by level, tables by rows, and every line of code."""
    shapes = []
    for readme in READMES:
        text = readme.read_text()
        headings = re.findall(r"^(#+) ", text, re.MULTILINE)
        rows = len(re.findall(r"^\|", text, re.MULTILINE))
        commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        shapes.append((headings, rows, [re.sub(r"\s*#.*", "", block) for block in commands]))
    assert shapes[0] == shapes[1]
