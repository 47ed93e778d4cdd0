from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SyncConfig(AppConfig):
    name = "sync"
    verbose_name = _("Accounts and inbox")

    def ready(self) -> None:
        from lifecycle import duties, said
        from sync.duties import AssignmentDuty, ChecksDuty, FreshnessDuty
        from sync.sentences import sentences
        from sync.sweeps import ExpireLogins, WatchDeadLetters

        said.register(sentences)
        duties.register(AssignmentDuty())
        duties.register(ChecksDuty())
        duties.register(FreshnessDuty())
        duties.register(ExpireLogins())
        duties.register(WatchDeadLetters())
