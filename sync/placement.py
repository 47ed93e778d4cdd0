"""Why accounts have no worker, in words that say what to do [L15]."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext


@dataclass(frozen=True, slots=True)
class Placement:
    """Enabled accounts and the workers that could take them."""

    waiting: int  # accounts without a worker that runs
    served: int  # accounts with one
    capacity: int  # accounts that the running workers may hold
    running: int  # workers

    @property
    def reason(self) -> str:
        """What is in the way of those that wait; "" when none does."""
        if not self.waiting:
            return ""
        numbers = {"n": self.waiting}
        if not self.running:
            return (
                ngettext(
                    "no worker is running: %(n)d account waits for one; start a worker",
                    "no worker is running: %(n)d accounts wait for one; start a worker",
                    self.waiting,
                )
                % numbers
            )
        if self.served >= self.capacity:
            return (
                ngettext(
                    "no capacity: %(n)d account waits for a worker; "
                    "raise max_accounts or add a worker",
                    "no capacity: %(n)d accounts wait for a worker; "
                    "raise max_accounts or add a worker",
                    self.waiting,
                )
                % numbers
            )
        return _("a worker is being chosen")
