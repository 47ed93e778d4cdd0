"""ASGI entry point, served by uvicorn."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm.settings")

from django.core.asgi import get_asgi_application

application = get_asgi_application()
