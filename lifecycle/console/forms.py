"""Admin forms whose writes go through a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.http import HttpRequest, HttpResponse

from lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    FormBase = forms.ModelForm[Any]
    AdminBase = admin.ModelAdmin[Any]
else:
    FormBase = forms.ModelForm
    AdminBase = object


class ServiceForm(FormBase):
    """A form that can be shown again with what the service said to it."""

    refusal: ClassVar[Exception | None] = None

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
            return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.refusal = getattr(request, "refusal", None)  # a class of its own for each request
        return form
