"""Dead letters in the admin: the list, and the page where one is repaired and replayed [S6]."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from lifecycle.console.ids import row_id
from lifecycle.console.live import DASH, badge, moment
from lifecycle.said import said
from sync import queries, services
from sync.admin.by_account import BY_ACCOUNT
from sync.admin.forms import as_json
from sync.admin.inbox import PlatformFilter
from sync.admin.looks import platform_label
from sync.admin.records import RecordAdmin, clipped
from sync.dead_records import SHAPES, original, template
from sync.errors import SyncError
from sync.models import DeadLetter
from sync.models.records import RECORD_KINDS
from sync.services.deadletters import MOST_AT_ONCE
from sync.trail import leave_trail
from sync.types import DeadLetterState, RawShape, RecordKind

TONES = {
    DeadLetterState.OPEN: "red",
    DeadLetterState.REPLAYED: "green",
    DeadLetterState.DISCARDED: "grey",
}
LONGEST_SHOWN = 200_000  # characters of a raw record on its page


@admin.register(DeadLetter)
class DeadLetterAdmin(RecordAdmin):
    """Records that did not validate. The raw record is decrypted on its own page alone."""

    list_display = ["what", "state_badge", "account", "why", "weight", "at"]
    list_filter = ["state", "kind", PlatformFilter, BY_ACCOUNT, "shape"]
    search_fields = ["external_id", "error"]
    actions = ["replay_selected", "discard_selected", "reopen_selected"]
    list_before_template = "console/dead_letter_alarm.html"
    list_fullwidth = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        return queries.dead_letters()

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("sync.resolve_deadletter")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        figures = queries.dead_letter_figures(timezone.now())
        return super().changelist_view(request, {**(extra_context or {}), "letters": figures})

    # --- columns ---

    @admin.display(description=_("record"), ordering="kind")
    def what(self, letter: DeadLetter) -> SafeString | str:
        return clipped(str(letter))

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, letter: DeadLetter) -> SafeString:
        return badge(letter.get_state_display(), TONES[DeadLetterState(letter.state)])

    @admin.display(description=_("error"))
    def why(self, letter: DeadLetter) -> SafeString | str:
        return clipped(said(letter.error))

    @admin.display(description=_("size"), ordering="size")
    def weight(self, letter: DeadLetter) -> str:
        return filesizeformat(letter.size) if letter.size else DASH

    @admin.display(description=_("time"), ordering="id")
    def at(self, letter: DeadLetter) -> SafeString | str:
        return moment(letter.created_at)

    # --- actions ---

    @admin.action(description=_("Replay"), permissions=["resolve"])
    def replay_selected(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        self._resolve(request, rows, "replay")

    @admin.action(description=_("Discard"), permissions=["resolve"])
    def discard_selected(
        self, request: HttpRequest, rows: QuerySet[DeadLetter]
    ) -> HttpResponse | None:
        """Asked about once more; undone by “Reopen”."""
        if "confirmed" in request.POST:
            self._resolve(request, rows, "discard")
            return None
        return self._confirm(request, list(rows[:MOST_AT_ONCE]), "discard_selected")

    @admin.action(description=_("Reopen"), permissions=["resolve"])
    def reopen_selected(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        self._resolve(request, rows, "reopen")

    def _resolve(self, request: HttpRequest, rows: QuerySet[DeadLetter], action: str) -> None:
        letters = {letter.pk: letter for letter in rows[:MOST_AT_ONCE]}
        who = request.user.get_username()
        results = services.resolve_dead_letters(action, letters, who)
        done = [one for one in results if not one.code]
        for one in done:
            leave_trail(request.user, letters[one.letter_id], f"{action}, with others.")
        if done:
            text = ngettext("%(n)d dead letter: done.", "%(n)d dead letters: done.", len(done))
            messages.success(request, text % {"n": len(done)})
        for one in [one for one in results if one.code][:10]:
            messages.error(request, f"{letters[one.letter_id]}: {said(one.error)}")

    def _confirm(
        self, request: HttpRequest, letters: list[DeadLetter], action: str
    ) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Discard?"),
            "opts": self.opts,
            "letters": letters,
            "action": action,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "console/dead_letter_discard.html", context)

    # --- the page of one ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        name = "sync_deadletter"
        return [
            path("<int:pk>/fix/", view(require_POST(self.fix_view)), name=f"{name}_fix"),
            path("<int:pk>/replay/", view(require_POST(self.replay_view)), name=f"{name}_replay"),
            path("<int:pk>/discard/", view(self.discard_view), name=f"{name}_discard"),
            path("<int:pk>/reopen/", view(require_POST(self.reopen_view)), name=f"{name}_reopen"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Facts for all; the record itself for those who may repair it, noted in its history."""
        letter = self._letter(request, object_id)
        if request.method == "GET" and self.has_resolve_permission(request):
            leave_trail(request.user, letter, "Record seen.")
        return self._page(request, letter)

    def fix_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Save the repaired record, and replay it if the button says so."""
        letter = self._letter(request, pk, resolve=True)
        kind, text = request.POST.get("kind", ""), request.POST.get("record", "")
        try:
            services.fix_dead_letter(pk, kind, json.loads(text), request.user.get_username())
        except (ValueError, RecursionError) as broken:
            errors = {"record": [gettext("This is no JSON: %(why)s") % {"why": broken}]}
            return self._page(request, letter, kind, text, errors)
        except ValidationError as invalid:
            errors = {name: [*map(said, told)] for name, told in invalid.message_dict.items()}
            return self._page(request, letter, kind, text, errors)
        except SyncError as refused:
            return self._page(request, letter, kind, text, {"": [str(refused)]})
        leave_trail(request.user, letter, "Repaired.")
        if "replay" in request.POST:
            return self.replay_view(request, pk)
        messages.success(request, gettext("Repaired. Replay it to store it."))
        return self._back(pk)

    def replay_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        done = gettext("Replayed: what it held is stored.")
        return self._act(request, pk, services.replay_dead_letter, "Replayed.", done)

    def reopen_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._act(
            request, pk, services.reopen_dead_letter, "Reopened.", gettext("It is open again.")
        )

    def discard_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """GET asks, POST does."""
        letter = self._letter(request, pk, resolve=True)
        if request.method != "POST":
            return self._confirm(request, [letter], "")
        done = gettext("Discarded. “Reopen” undoes this.")
        return self._act(request, pk, services.discard_dead_letter, "Discarded.", done)

    def _act(
        self,
        request: HttpRequest,
        pk: int,
        act: Callable[[int, str], DeadLetter],
        trail: str,
        done: str,
    ) -> HttpResponse:
        letter = self._letter(request, pk, resolve=True)
        try:
            act(pk, request.user.get_username())
        except SyncError as refused:
            messages.error(request, said(str(refused)))
        except ValidationError as invalid:
            messages.error(request, " ".join(map(said, invalid.messages)))
        else:
            leave_trail(request.user, letter, trail)
            messages.success(request, done)
        return self._back(pk)

    def _back(self, pk: int) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:sync_deadletter_change", args=[pk]))

    def _page(
        self,
        request: HttpRequest,
        letter: DeadLetter,
        kind: str = "",
        text: str = "",
        errors: dict[str, list[str]] | None = None,
    ) -> HttpResponse:
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": str(letter),
            "opts": self.opts,
            "original": letter,
            "letter": letter,
            "state": self.state_badge(letter),
            "platform": platform_label(letter.account.platform),
            "created": moment(letter.created_at),
            "resolved": moment(letter.resolved_at),
            "may_resolve": self.has_resolve_permission(request),
            "errors": errors or {},
        }
        if context["may_resolve"]:
            context |= self._record(letter, kind, text)
        return TemplateResponse(request, "console/dead_letter.html", context)

    def _record(self, letter: DeadLetter, kind: str, text: str) -> dict[str, Any]:
        """The raw record, and what the form for its repair begins with."""
        fixed = dict(letter.fixed) if letter.fixed else {}
        kind = kind or fixed.get("kind", "") or _likely(letter)
        begin = fixed.get("record") or template(RecordKind(kind), letter) if kind in SHAPES else {}
        raw = original(letter.raw)
        try:
            shown = as_json(json.loads(raw))
        except ValueError:
            shown = raw
        return {
            "raw": shown[:LONGEST_SHOWN],
            "raw_is_cut": len(shown) > LONGEST_SHOWN,
            "kinds": RECORD_KINDS,
            "fix_kind": kind,
            "fix_text": text or as_json(begin),
            "is_fixed": bool(fixed),
        }

    def _letter(self, request: HttpRequest, pk: object, *, resolve: bool = False) -> DeadLetter:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if resolve and not self.has_resolve_permission(request):
            raise PermissionDenied
        if (found := row_id(pk)) is None:
            raise Http404
        rows = DeadLetter.objects.select_related("account").defer(*queries.OF_ACCOUNT)
        return get_object_or_404(rows, pk=found)


def _likely(letter: DeadLetter) -> str:
    """The kind that a repaired record most likely has."""
    if letter.shape == RawShape.RECORD or letter.kind in SHAPES:
        return letter.kind
    return RecordKind.MESSAGE.value
