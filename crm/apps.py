"""Django's start-up hooks of the project itself."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate


class CrmConfig(AppConfig):
    name = "crm"
    verbose_name = "Muster"

    def ready(self) -> None:
        import crm.celery  # noqa: F401 - binds @shared_task to our Celery application
        from crm.roles import grant_roles

        post_migrate.connect(grant_roles, dispatch_uid="roles")


class MusterAdminConfig(AdminConfig):
    """The admin, with Muster's own site as the default one."""

    default_site = "crm.admin.MusterAdminSite"

    def ready(self) -> None:
        super().ready()
        from crm.console.others import clothe

        clothe()
