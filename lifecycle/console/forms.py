"""Admin forms whose writes go through a service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from lifecycle.conflict import Conflict
from lifecycle.errors import LifecycleError, OutOfDate

if TYPE_CHECKING:
    FormBase = forms.ModelForm[Any]
    AdminBase = admin.ModelAdmin[Any]
else:
    FormBase = forms.ModelForm
    AdminBase = object


class ChangedMeanwhile(ValidationError):
    """Somebody else saved since the form was shown. `seen` is what its hidden field `seen` becomes
    when the form is shown again: who saves then has read the message, and replaces that."""

    def __init__(self, seen: object, changes: list[tuple[Any, Any, Any]], who: str = "") -> None:
        self.seen = seen
        said = [
            gettext("%(field)s: %(old)s → %(new)s") % {"field": name, "old": old, "new": new}
            for name, old, new in changes
        ]
        by = gettext("%(who)s changed this while you edited it.") % {"who": who}
        plain = gettext("Somebody else changed this while you edited it.")
        kept = gettext("Nothing was saved yet and your input is kept: save again to replace that.")
        super().__init__([by if who else plain, *said, kept])


class ServiceForm(FormBase):
    """A form that can be shown again with what the service said to it."""

    refusal: ClassVar[Exception | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.refusal, ChangedMeanwhile):
            self._has_seen(self.refusal.seen)
        elif isinstance(self.refusal, OutOfDate):
            self._has_seen(self.refusal.conflict.current)

    def _has_seen(self, seen: object) -> None:
        posted: Any = self.data.copy()  # type: ignore[attr-defined]  # a QueryDict
        posted[self.add_prefix("seen")] = seen
        self.data = posted

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if isinstance(self.refusal, ValidationError):
            for name, complaints in self.refusal.update_error_dict({}).items():
                where = self.input_of(name)
                self.add_error(where if where in self.fields else None, complaints)
        elif self.refusal is not None:
            self.add_error(None, str(self.refusal))
        return cleaned

    def input_of(self, name: str) -> str | None:
        """The input that a service's field stands for."""
        return None if name == NON_FIELD_ERRORS else name


def shown(value: object) -> str:
    """A value of a field as its input shows it."""
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


class ServiceAdmin(AdminBase):
    """Saves in `save_model` by calling a service; what it refuses stands at the inputs.

    Django asks the form first and saves afterwards. So a refused save is rolled back, and the page
    is made once more with a form that knows the refusal.
    """

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except (ValidationError, LifecycleError) as error:
            request.refusal = error  # type: ignore[attr-defined]
            if isinstance(error, OutOfDate):
                extra_context = {**(extra_context or {}), **self.side_by_side(error.conflict)}
            return super().changeform_view(request, object_id, form_url, extra_context)

    def side_by_side(self, conflict: Conflict) -> dict[str, Any]:
        """Context of `console/config_conflict.html`."""
        rows = [
            {
                "field": found.field,
                "label": self.model._meta.get_field(found.field).verbose_name,  # noqa: SLF001 - public, by Django's documentation
                "yours": shown(found.yours),
                "current": shown(found.current),
            }
            for found in conflict.differences
        ]
        return {"conflict": conflict, "conflict_rows": rows}

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.refusal = getattr(request, "refusal", None)  # a class of its own for each request
        return form
