from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SyncConfig(AppConfig):
    name = "sync"
    verbose_name = _("Accounts and inbox")

    def ready(self) -> None:
        from lifecycle import duties
        from sync.duties import AccountsDuty
        from sync.sweeps import ExpireLogins, WatchDeadLetters

        duties.register(AccountsDuty())
        duties.register(ExpireLogins())
        duties.register(WatchDeadLetters())
