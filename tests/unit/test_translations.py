"""The Chinese catalogues are whole, and what is compiled is what is written."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import polib
import pytest
import unfold
from django.utils import translation
from django.utils.translation.template import templatize

LOCALE = Path(__file__).parents[2] / "locale"
CATALOGUE = LOCALE / "zh_Hans" / "LC_MESSAGES" / "django.po"
OF_THEME = LOCALE / "unfold" / "zh_Hans" / "LC_MESSAGES" / "django.po"
both = pytest.mark.parametrize("catalogue", [CATALOGUE, OF_THEME], ids=["ours", "theme"])
# Parts of the theme that are for packages or widgets which we don't have.
NOT_USED = re.compile(r"constance|import_export|guardian|simple_history|crispy|toolbar|location")
MARKED = re.compile(r"gettext\(u?('(?:[^'\\]|\\.)*')")


def test_every_message_is_translated() -> None:
    entries = polib.pofile(str(CATALOGUE))
    assert len(entries) > 300
    assert [entry.msgid for entry in entries if entry.fuzzy or not entry.translated()] == []


@both
def test_placeholders_survive_translation(catalogue: Path) -> None:
    for entry in polib.pofile(str(catalogue)):
        said = [entry.msgstr, *entry.msgstr_plural.values()]
        wanted = {part.split(")")[0] for part in entry.msgid.split("%(")[1:]}
        for text in filter(None, said):
            assert {part.split(")")[0] for part in text.split("%(")[1:]} == wanted, entry.msgid


@both
def test_the_compiled_catalogue_is_the_written_one(catalogue: Path) -> None:
    compiled = polib.mofile(str(catalogue.with_suffix(".mo")))
    assert compiled.to_binary() == polib.pofile(str(catalogue)).to_binary()


def test_every_marked_string_is_in_the_catalogue() -> None:
    """A cheap stand-in for makemessages: literal arguments of gettext in our own modules."""
    root = CATALOGUE.parents[3]
    known = {entry.msgid for entry in polib.pofile(str(CATALOGUE))}
    marked = {
        call.args[0].value
        for app in ("crm", "lifecycle", "sync")
        for module in (root / app).rglob("*.py")
        for call in ast.walk(ast.parse(module.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"_", "gettext", "gettext_lazy", "ngettext"}
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    assert marked - known == set()


def test_the_theme_speaks_chinese() -> None:
    """[C6] It comes in English only, and a release of it may say new things."""
    root = Path(unfold.__file__).parent
    pages = [path for path in root.rglob("*.html") if not NOT_USED.search(str(path))]
    said = {
        ast.literal_eval(text)
        for path in pages
        for text in MARKED.findall(templatize(path.read_text()))
    }
    assert len(said) > 100
    with translation.override("zh-hans"):
        assert {text for text in said if translation.gettext(text) == text} == set()
