"""The three roles, as Django groups: viewer, operator, admin [C3]."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet

SHOWN = ("lifecycle", "sync", "django_celery_beat", "django_celery_results")
CONFIGURED = Q(content_type__app_label="lifecycle", content_type__model="workerconfig") | Q(
    content_type__app_label="sync", content_type__model="account"
)
SCHEDULED = Q(content_type__app_label="django_celery_beat")
VIEW = Q(codename__startswith="view_")
OPERATE = Q(codename__regex=r"^(operate|resolve)_")
WRITE = Q(codename__regex=r"^(add|change|delete)_")

ROLES: dict[str, Q] = {
    "viewer": VIEW,
    "operator": VIEW | OPERATE,
    "admin": VIEW | OPERATE | (WRITE & (CONFIGURED | SCHEDULED)),
}


def grant_roles(sender: AppConfig, using: str = "default", **_: Any) -> None:
    """`post_migrate`: make the groups and give each what its role may do in `sender`'s app.

    Permissions that somebody added to a group by hand stay. Django's own receiver may run after
    this one, so the app's permissions are made here first; doing it twice is harmless.
    """
    if sender.label not in SHOWN:
        return
    create_permissions(sender, verbosity=0, using=using)
    for name, rights in ROLES.items():
        group, _created = Group.objects.using(using).get_or_create(name=name)
        group.permissions.add(*_permissions(sender.label, rights, using))


def _permissions(app_label: str, rights: Q, using: str) -> QuerySet[Permission]:
    rows = Permission.objects.using(using).filter(rights, content_type__app_label=app_label)
    return rows.select_related("content_type")
