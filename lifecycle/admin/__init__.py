"""Workers in the admin: the fleet, a worker's page, configs, rolling restarts, lifecycle log."""

from lifecycle.admin import configs, fleet, log, rollouts

__all__ = ["configs", "fleet", "log", "rollouts"]
