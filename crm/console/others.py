"""Admin pages that other packages bring, in unfold's clothes.

Imported once all of them have registered (`crm.apps.MusterAdminConfig.ready`).
"""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django_celery_beat import admin as beat
from django_celery_beat import models as beat_models
from django_celery_results.admin import TaskResultAdmin
from django_celery_results.models import GroupResult, TaskResult
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

UNUSED = (GroupResult, AuthToken, beat_models.SolarSchedule)  # `manage.py token` makes tokens


class MusterUserAdmin(UserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "roles", "is_active", "is_staff", "last_login"]
    list_filter = ["groups", "is_staff", "is_active", "is_superuser"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description=_("roles"))
    def roles(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all())


class MusterGroupAdmin(GroupAdmin, ModelAdmin):  # type: ignore[misc]
    """Roles."""


class PeriodicTaskForm(beat.PeriodicTaskForm):  # type: ignore[misc]
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        if "task" in self.fields:
            self.fields["task"].widget = UnfoldAdminTextInputWidget()
            chosen = self.fields["regtask"]
            chosen.widget = UnfoldAdminSelectWidget(choices=chosen.choices)


class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, ModelAdmin):  # type: ignore[misc]
    form = PeriodicTaskForm


class CrontabAdmin(beat.CrontabScheduleAdmin, ModelAdmin):  # type: ignore[misc]
    """Schedules as cron writes them."""


class IntervalAdmin(beat.IntervalScheduleAdmin, ModelAdmin):  # type: ignore[misc]
    """Schedules every so often."""


class ClockedAdmin(beat.ClockedScheduleAdmin, ModelAdmin):  # type: ignore[misc]
    """One point in time."""


class ResultAdmin(TaskResultAdmin, ModelAdmin):  # type: ignore[misc]
    """What Celery says of finished tasks: telemetry, never a record."""


CLOTHED = {
    User: MusterUserAdmin,
    Group: MusterGroupAdmin,
    beat_models.PeriodicTask: PeriodicTaskAdmin,
    beat_models.CrontabSchedule: CrontabAdmin,
    beat_models.IntervalSchedule: IntervalAdmin,
    beat_models.ClockedSchedule: ClockedAdmin,
    TaskResult: ResultAdmin,
}


def clothe() -> None:
    """Register them anew, and leave out what nobody uses here."""
    admin.site.unregister([*UNUSED, *CLOTHED])
    for model, model_admin in CLOTHED.items():
        admin.site.register(model, model_admin)
