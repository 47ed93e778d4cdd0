"""Workers in the admin: the fleet, one worker's page, configs and the lifecycle log."""

from lifecycle.admin import configs, fleet

__all__ = ["configs", "fleet"]
