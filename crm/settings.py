"""Django settings. Values that differ between installations come from `crm.env`."""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab
from django.templatetags.static import static
from django.utils.translation import gettext_lazy as _
from psycopg.conninfo import conninfo_to_dict

from crm.env import CHECKOUT, env
from crm.logs import logging_config

BASE_DIR = CHECKOUT
SECRET_KEY = env.django_secret_key
FERNET_KEYS = env.fernet_keys
MUSTER_PLATFORMS = [name.strip() for name in env.platforms.split(",") if name.strip()]
MUSTER_BATCH_ROWS = env.batch_rows
MUSTER_BATCH_BYTES = env.batch_bytes
MUSTER_DEAD_LETTER_ALARM = env.dead_letter_alarm
DEBUG = env.debug
ALLOWED_HOSTS = [host.strip() for host in env.allowed_hosts.split(",") if host.strip()]
CSRF_TRUSTED_ORIGINS = [o.strip() for o in env.trusted_origins.split(",") if o.strip()]

# Parts without pages: what only pages need would cost them memory and time to start.
IS_HEADLESS = env.part in {"master", "agent", "beat", "flower"}
PAGES = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "crm.apps.MusterAdminConfig",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_filters",
    "django_htmx",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "rest_framework",
]
INSTALLED_APPS = [
    "crm.apps.CrmConfig",
    *(["django.contrib.admin.apps.SimpleAdminConfig"] if IS_HEADLESS else PAGES),
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django_celery_beat",
    "django_celery_results",
    "django_structlog",
    "knox",
    "simple_history",
    "lifecycle",
    "sync",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
]

ROOT_URLCONF = "crm.urls"
ASGI_APPLICATION = "crm.asgi.application"
APPEND_SLASH = True
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "crm" / "console" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def database_settings(url: str) -> dict[str, Any]:
    """Django's `DATABASES` entry for a libpq URL.

    Every wait has an end: connecting, a statement, a lock, and a transaction left open by a frozen
    process (which would otherwise hold an account's row for ever).
    """
    parts = conninfo_to_dict(url)
    names = {
        "dbname": "NAME",
        "user": "USER",
        "password": "PASSWORD",
        "host": "HOST",
        "port": "PORT",
    }
    settings = {names[key]: str(parts.pop(key)) for key in list(parts) if key in names}
    timeouts = {
        "statement_timeout": "30s",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "30s",
    }
    given_options = str(parts.pop("options", ""))
    return {
        "ENGINE": "django.db.backends.postgresql",
        **settings,
        "OPTIONS": {
            "connect_timeout": 10,
            **parts,
            "application_name": f"muster-{env.part}",
            "options": " ".join(
                [*(f"-c {name}={value}" for name, value in timeouts.items()), given_options]
            ).strip(),
            # Connections are budgeted: an idle process gives its own back after 30 s. A pool that
            # can't connect tries after 1, 2 and 4 s, then with the next who asks: by default it
            # would double that up to 128 s, and let everybody wait although the database is back.
            "pool": {
                "min_size": 0,
                "max_size": 8,
                "max_idle": 30,
                "timeout": 10,
                "reconnect_timeout": 10,
            },
        },
    }


DATABASES = {"default": database_settings(env.resolved_database_url)}

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
# Our own words, then those of the admin theme, which comes in English only.
LOCALE_PATHS = [BASE_DIR / "locale", BASE_DIR / "locale" / "unfold"]
USE_I18N = True
TIME_ZONE = env.time_zone
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "crm" / "console" / "static"]
# Files are served from the packages that bring them: no collectstatic step between clone and login.
WHITENOISE_USE_FINDERS = True

SESSION_COOKIE_NAME = "muster_session"
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = "muster_csrf"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10_100  # a whole fleet, chosen one by one

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "crm.authentication.TokenLogin",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["crm.permissions.RolePermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["crm.parsers.JSONBody"],
    "DEFAULT_FILTER_BACKENDS": ["crm.api.StrictFilters"],
    "DEFAULT_PAGINATION_CLASS": "crm.paging.Page",
    "DEFAULT_SCHEMA_CLASS": "crm.schema.AutoSchema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "PAGE_SIZE": 50,
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": "6000/min"},
}
REST_KNOX = {"TOKEN_TTL": None, "AUTH_HEADER_PREFIX": "Token"}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "crm.api.ExceptionHandler",
    "EXCEPTION_FORMATTER_CLASS": "crm.api.ErrorFormatter",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Muster API",
    "VERSION": "1",
    "DESCRIPTION": "Workers, accounts, conversations and messages.",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "WorkerStateEnum": "lifecycle.models.STATES",
        "RolloutStateEnum": "lifecycle.models.ROLLOUT_STATES",
        "StepStateEnum": "lifecycle.models.STEP_STATES",
        "ReplyStateEnum": "sync.models.requests.REPLY_STATES",
        "LoginSessionStateEnum": "sync.models.requests.LOGIN_SESSION_STATES",
        "DeliveryStateEnum": "sync.models.deliveries.DELIVERY_STATES",
        "DeadLetterStateEnum": "sync.models.ledger.DEAD_LETTER_STATES",
        "AuditOutcomeEnum": "sync.models.ledger.AUDIT_OUTCOMES",
        "SyncOutcomeEnum": "sync.models.ledger.OUTCOMES",
        "ProcessStreamEnum": "lifecycle.api.serializers.STREAMS",
        "BreakerStateEnum": "sync.models.accounts.BREAKER_STATES",
    },
}

CELERY_BROKER_URL = env.resolved_broker_url
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
# Else a task would be lost before its first instruction while the database is away: to write down
# that it has begun is the first thing that it would do. Events (Flower) tell that it runs.
CELERY_TASK_TRACK_STARTED = False
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# On SIGQUIT, the second rung of the stop ladder: seconds that running tasks still have.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 3
# A missing broker is waited for, never died of [L5]; its return is seen within seconds.
CELERY_WORKER_CONSUMER = "lifecycle.patient_consumer:Consumer"
CELERY_BROKER_CONNECTION_RETRY = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CONNECTION_TIMEOUT = 10
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    # What a killed worker had not acknowledged comes back in seconds, not minutes (kombu >= 5.7).
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 10,
    "socket_timeout": 30,
    "socket_keepalive": True,
}
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE = {
    "prune sync runs": {"task": "sync.prune_runs", "schedule": 3600.0},
    "prune feed": {"task": "sync.prune_feed", "schedule": 3600.0},
    "recount": {"task": "sync.recount", "schedule": crontab(hour="3", minute="17")},
    "prune webhook deliveries": {"task": "sync.prune_deliveries", "schedule": 3600.0},
    "prune sync history": {"task": "sync.prune_history", "schedule": 3600.0},
}

LOGGING = logging_config(env.log_format, env.log_level)
LOGGING_CONFIG = "logging.config.dictConfig"
DJANGO_STRUCTLOG_CELERY_ENABLED = False

MUSTER = env

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Muster",
    "SITE_HEADER": "Muster",
    "SITE_SUBHEADER": _("Workers, accounts, one inbox"),
    "SITE_SYMBOL": "hub",
    "SITE_URL": None,
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("console/icon.svg"),
        }
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_LANGUAGES": True,
    "STYLES": [lambda request: static("console/console.css")],
    "SCRIPTS": [
        lambda request: static("console/console.js"),
        lambda request: static("console/live.js"),
    ],
    "SIDEBAR": {"show_search": False, "navigation": "crm.console.navigation.sidebar"},
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 255)",
            "100": "oklch(93.2% .032 256)",
            "200": "oklch(88.2% .059 254)",
            "300": "oklch(80.9% .105 252)",
            "400": "oklch(70.7% .165 255)",
            "500": "oklch(62.3% .214 260)",
            "600": "oklch(54.6% .215 262)",
            "700": "oklch(48.8% .205 264)",
            "800": "oklch(42.4% .18 266)",
            "900": "oklch(37.9% .146 266)",
            "950": "oklch(28.2% .091 268)",
        },
    },
}
