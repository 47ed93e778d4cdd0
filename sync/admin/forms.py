"""The form of an account: credentials go in, and never come out again."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from lifecycle.console.forms import ChangedMeanwhile, ServiceForm
from sync import platforms
from sync.models import Account

TEXTS: tuple[object, ...] = (str, str | None, SecretStr, SecretStr | None)
SAVED_FIELDS = (
    "name",
    "platform",
    "identifier",
    "endpoint",
    "interval_s",
    "audit_interval_s",
    "stalled_after_s",
    "enabled",
)


def field_name(platform: str, name: str) -> str:
    """The form's field for one credential of one platform; `name` "" is their JSON object.

    It is also a variable of the page's script: a platform's name may have hyphens, that may not.
    """
    whole = f"credentials_{platform.replace('-', '_')}"
    return f"{whole}_{name}" if name else whole


def credential_fields(platform: str, shape: type[BaseModel]) -> dict[str, forms.Field]:
    """One input for each text of the shape; one JSON object if it holds anything else."""
    fields = shape.model_fields
    if all(field.annotation in TEXTS for field in fields.values()):
        return {field_name(platform, name): _text(name, field) for name, field in fields.items()}
    return {
        field_name(platform, ""): forms.JSONField(
            label=gettext_lazy("Credentials"),
            required=False,
            widget=UnfoldAdminTextareaWidget(attrs={"rows": 5, "autocomplete": "off"}),
            help_text=", ".join(fields),
        )
    }


def _text(name: str, field: FieldInfo) -> forms.Field:
    hidden = not field.repr or field.annotation in (SecretStr, SecretStr | None)
    kind = UnfoldAdminPasswordWidget if hidden else UnfoldAdminTextInputWidget
    attrs = {"autocomplete": "new-password" if hidden else "off"}
    return forms.CharField(
        label=_(field.title or name.replace("_", " ").capitalize()),
        help_text=_(field.description) if field.description else "",
        required=False,
        strip=not hidden,
        widget=kind(attrs=attrs),
    )


def as_seen(account: Account) -> dict[str, Any]:
    """What people set in an account, to tell whether somebody else changed it meanwhile."""
    credentials = json.dumps(account.credentials, sort_keys=True)
    digest = salted_hmac("sync.admin.AccountForm", credentials, algorithm="sha256").hexdigest()
    return {name: getattr(account, name) for name in SAVED_FIELDS} | {"credentials": digest}


class AccountForm(ServiceForm):
    """Has the inputs of every platform; the page shows those of the chosen one."""

    platform = forms.ChoiceField(label=gettext_lazy("Platform"))

    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Account
        fields = SAVED_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "platform" not in self.fields:  # read-only for this user
            return
        known = platforms.registry()
        choices = [(name, platform.label) for name, platform in known.items()]
        self.fields["platform"].choices = choices  # type: ignore[attr-defined]
        self.fields["platform"].widget = UnfoldAdminSelectWidget(choices=choices)
        for name, platform in known.items():
            self.fields.update(credential_fields(name, platform.credentials))
        if self.instance.pk and not self.is_bound:
            self.fields["seen"].initial = json.dumps(as_seen(self.instance))

    def refuse_if_changed(self, current: Account) -> None:
        """Raises `ChangedMeanwhile` when `current` is not the account that this form showed."""
        try:
            seen = json.loads(self.cleaned_data["seen"] or "{}")
        except ValueError:
            seen = {}
        now = as_seen(current)
        if not isinstance(seen, dict) or not seen or seen == now:
            return
        fields: Any = {field.name: field for field in current._meta.fields}  # noqa: SLF001 - public, by Django's documentation
        changes = [
            (fields[name].verbose_name, seen.get(name), now[name])
            for name in SAVED_FIELDS
            if seen.get(name) != now[name]
        ]
        if seen.get("credentials") != now["credentials"]:
            changes.append((_("Credentials"), "********", "********"))
        raise ChangedMeanwhile(json.dumps(now), changes)

    @property
    def fields_to_save(self) -> dict[str, Any]:
        """What `sync.services` takes. Credentials are among it for a new account, or if somebody
        entered some; they replace all that is stored.
        """
        fields = {
            name: self.cleaned_data[name] for name in SAVED_FIELDS if name in self.cleaned_data
        }
        given = self._given_credentials(self.cleaned_data["platform"])
        return fields | ({"credentials": given} if given or not self.instance.pk else {})

    def _given_credentials(self, platform: str) -> dict[str, Any]:
        whole = self.cleaned_data.get(field_name(platform, ""))
        if whole:
            return whole if isinstance(whole, dict) else {"": whole}
        names = platforms.registry()[platform].credentials.model_fields
        values = {name: self.cleaned_data.get(field_name(platform, name)) for name in names}
        return {name: value for name, value in values.items() if value}

    def input_of(self, name: str) -> str | None:
        """`credentials.password` stands at the chosen platform's input for the password."""
        if not name.startswith("credentials"):
            return super().input_of(name)
        return field_name(self.cleaned_data["platform"], name.partition(".")[2])


def as_json(value: object) -> str:
    """A stored raw record, for reading."""
    return json.dumps(value, ensure_ascii=False, indent=2)
