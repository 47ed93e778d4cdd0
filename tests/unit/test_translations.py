"""The Chinese catalogue is whole, and what is compiled is what is written."""

from __future__ import annotations

from pathlib import Path

import polib

CATALOGUE = Path(__file__).parents[2] / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"


def test_every_message_is_translated() -> None:
    entries = polib.pofile(str(CATALOGUE))
    assert len(entries) > 300
    assert [entry.msgid for entry in entries if entry.fuzzy or not entry.translated()] == []


def test_placeholders_survive_translation() -> None:
    for entry in polib.pofile(str(CATALOGUE)):
        said = [entry.msgstr, *entry.msgstr_plural.values()]
        wanted = {part.split(")")[0] for part in entry.msgid.split("%(")[1:]}
        for text in filter(None, said):
            assert {part.split(")")[0] for part in text.split("%(")[1:]} == wanted, entry.msgid


def test_the_compiled_catalogue_is_the_written_one() -> None:
    compiled = polib.mofile(str(CATALOGUE.with_suffix(".mo")))
    assert compiled.to_binary() == polib.pofile(str(CATALOGUE)).to_binary()


def test_every_marked_string_is_in_the_catalogue() -> None:
    """A cheap stand-in for makemessages: literal arguments of gettext in our own modules."""
    import ast

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
