from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class LifecycleConfig(AppConfig):
    name = "lifecycle"
    verbose_name = _("Fleet")

    def ready(self) -> None:
        from lifecycle import duties, said
        from lifecycle.logs_duty import LogsDuty
        from lifecycle.metrics_duty import MetricsDuty
        from lifecycle.rollout_duty import RolloutDuty
        from lifecycle.sentences import SENTENCES

        said.register(lambda: SENTENCES)
        duties.register(LogsDuty())
        duties.register(MetricsDuty())
        duties.register(RolloutDuty())
