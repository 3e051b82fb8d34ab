"""Settings of the project, all from the environment; see README, "Settings"."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from infery_site import env, logs
from infery_site.theme import UNFOLD as UNFOLD

BASE_DIR = Path(__file__).resolve().parent.parent
STATE_DIR = Path(env.read("INFERY_STATE_DIR") or BASE_DIR / "var").resolve()

SECRET_KEY = env.read("SECRET_KEY") or env.state_secret(STATE_DIR, "secret_key")
FIELD_ENCRYPTION_KEYS = env.read_list("FIELD_ENCRYPTION_KEYS") or [env.state_secret(STATE_DIR, "field_encryption_key")]
# Seeds of 32 bytes in base64: the first signs receipts, all verify them
RECEIPT_SIGNING_KEYS = env.read_seeds("RECEIPT_SIGNING_KEYS") or [env.state_seed(STATE_DIR, "receipt_signing_key")]
DEBUG = False
# Whether a test may name a point at which this process kills itself: see infery_site.failpoints
ARE_FAILPOINTS_ALLOWED = False

# Where people and clients reach this installation, such as https://gateway.example.com
PUBLIC_URL = env.read_url("PUBLIC_URL", ("http", "https"))
IS_PUBLIC_URL_SECURE = PUBLIC_URL.startswith("https://")
LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS = env.read_list("ALLOWED_HOSTS") or [*LOOPBACK_HOSTS, *filter(None, [urlsplit(PUBLIC_URL).hostname])]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []

# Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed
TRUSTED_PROXIES = env.read_networks("TRUSTED_PROXIES")
CORS_ALLOWED_ORIGINS = env.read_origins("CORS_ALLOWED_ORIGINS")
REDIS_URL = env.read_url("REDIS_URL", ("redis", "rediss", "unix"))
# Public networks of this installation, to which nothing is fetched that a user names; all private ones are refused anyway
OWN_NETWORKS = env.read_networks("OWN_NETWORKS")
# Private networks of this installation to which webhooks may be sent besides, and the ports to which any may
WEBHOOK_NETWORKS = env.read_networks("WEBHOOK_NETWORKS")
WEBHOOK_PORTS = env.read_counts("WEBHOOK_PORTS", (80, 443), least=1)
# Who has it may read /metrics from anywhere; without it only this machine may
METRICS_TOKEN = env.read("METRICS_TOKEN")

INSTALLED_APPS = [
    "chat",
    "files",
    "billing",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.simple_history",
    "simple_history",
    "infery_site.signin.apps.StaffAdminConfig",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "anymail",
    "django_tasks",
    "django_tasks_db",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
]

MIDDLEWARE = [
    "infery_site.middleware.ApiAnswers",
    "infery_site.health.HealthChecks",
    "infery_site.telemetry.Metrics",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "infery_site.signin.policy.ContentSecurityPolicy",
    "allauth.account.middleware.AccountMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
]

ROOT_URLCONF = "infery_site.urls"
ASGI_APPLICATION = "infery_site.asgi.application"
APPEND_SLASH = False

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_PUBLIC_URL_SECURE
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SECURE_HSTS_SECONDS = 31_536_000 if IS_PUBLIC_URL_SECURE else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# For subdomains, for browsers' preload lists and for port 80 the proxy in front speaks, which owns the domain.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# Signing in. People sign up themselves, by a mail address that they prove to have, unless SIGN_UP is "closed"; staff are made
# by staff. Whoever is staff needs a second factor to see the admin, all others may have one.
SIGN_UP_IS_OPEN = env.read_choice("SIGN_UP", ("open", "closed"), "open") == "open"
# Credits that a person's first workspace begins with
SIGN_UP_CREDITS = env.read_count("SIGN_UP_CREDITS", 0)
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/console/"
ACCOUNT_ADAPTER = "infery_site.signin.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_LOGOUT_REDIRECT_URL = "/accounts/login/"
ACCOUNT_SESSION_REMEMBER = False
# Not by a code that is mailed: no page here asks for one.
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
# An identity provider by which people sign in besides, if it is named. It is believed which mail addresses it has verified:
# whoever has one of them is the person who has it here. SIGN_UP counts for it as well.
OIDC = {
    "provider_id": "oidc",
    "name": env.read("OIDC_NAME") or "single sign-on",
    "client_id": env.read("OIDC_CLIENT_ID"),
    "secret": env.read("OIDC_CLIENT_SECRET"),
    "settings": {"server_url": env.read("OIDC_SERVER_URL")},
}
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [OIDC] if OIDC["client_id"] else []},
}
SOCIALACCOUNT_EMAIL_AUTHENTICATION = SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True
# By a link: the policy of pages lets no form lead to another host. The state that it carries is bound to the session.
SOCIALACCOUNT_LOGIN_ON_GET = True
SOCIALACCOUNT_OPENID_CONNECT_URL_PREFIX = ""
MFA_ADAPTER = "infery_site.signin.adapters.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "Gateway"
# Codes of the half minute before and after count too: clocks differ.
MFA_TOTP_TOLERANCE = 1
# A passkey whose device asks for finger, face or PIN is both factors at once. Over http it works at localhost only, which the
# library allows by itself: MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN would take it from every origin.
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RATE_LIMITS = {"webauthn_login": "30/m/ip", "passkey_options": "60/m/ip"}

# Mail goes to the server that EMAIL_URL names; without one it is written to the console of this process.
EMAIL = env.mail(env.read("EMAIL_URL"))
EMAIL_BACKEND = EMAIL["BACKEND"]
EMAIL_HOST, EMAIL_PORT = EMAIL["HOST"], EMAIL["PORT"]
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = EMAIL["USER"], EMAIL["PASSWORD"]
EMAIL_USE_TLS, EMAIL_USE_SSL = EMAIL["USE_TLS"], EMAIL["USE_SSL"]
EMAIL_TIMEOUT = 10
# A service of mail in its place, by its name in django-anymail, such as "postmark" with ANYMAIL_POSTMARK_SERVER_TOKEN
if EMAIL_SERVICE := env.read("EMAIL_SERVICE"):
    EMAIL_BACKEND = env.mail_service(EMAIL_SERVICE)
ANYMAIL = {**env.read_all("ANYMAIL_"), "REQUESTS_TIMEOUT": (5, EMAIL_TIMEOUT)}
DEFAULT_FROM_EMAIL = env.read("MAIL_FROM") or f"Gateway <no-reply@{urlsplit(PUBLIC_URL).hostname or 'localhost'}>"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "infery_site" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["billing.console.figures"],
        },
    }
]

DATABASES = {"default": env.database(env.read("DATABASE_URL"), STATE_DIR / "gateway.sqlite3")}
if os.environ.get("INFERY_TEST_SQLITE"):
    DATABASES["default"]["TEST"] = {"NAME": os.environ["INFERY_TEST_SQLITE"]}

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "files": env.storage(env.read("STORAGE_URL"), STATE_DIR / "files"),
    # Pages of PDFs that were converted, encrypted; in a place of their own in the same store
    "pages": env.storage(env.read("STORAGE_URL"), STATE_DIR / "files", below="pages"),
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "infery_site" / "static"]
# Served from where the packages have them, so that there is nothing to collect.
WHITENOISE_USE_FINDERS = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["billing.api.authentication.ApiKeyAuthentication"],
    # Authentication refuses what has no valid key, so nobody anonymous gets as far as a permission.
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_THROTTLE_CLASSES": ["billing.api.limiting.KeyLimit"],
    "EXCEPTION_HANDLER": "infery_site.drf.exception_handler",
    "UNAUTHENTICATED_USER": None,
    # `format` is a parameter of the views that know it, and no reason for a 404 at the others.
    "URL_FORMAT_OVERRIDE": None,
}

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LOGGING = logs.configure(env.read_choice("LOG_LEVEL", LOG_LEVELS, "info").upper())

# Every route but chat
BODY_LIMIT_BYTES = 2 * 1024 * 1024

# Seconds for which the event loop may stand still before the log tells where
LOOP_LAG_S = 0.2

# Seconds in which a client must take something of an answer that waits for him
CLIENT_STALL_S = 60.0

# Seconds in which a client that was still sending when its answer ended may send on, and read, before it is cut off
CLIENT_LINGER_S = 10.0

# The chat endpoint
CHAT_BODY_LIMIT_BYTES = 20 * 1024 * 1024
BODY_CHUNK_TIMEOUT_S = 30.0
BODY_TOTAL_TIMEOUT_S = 120.0
KEEP_ALIVE_FIRST_S = 10.0
KEEP_ALIVE_EVERY_S = 15.0

# Files: bytes of the largest one, where one is until all of it has arrived, and how long that may take
FILE_LIMIT_BYTES = 512 * 1024 * 1024
FILE_SPOOL_DIR = STATE_DIR / "uploads"
FILE_BODY_TOTAL_TIMEOUT_S = 3600.0
# A bucket: how long it may take to connect, and to say the next word
STORE_CONNECT_S = 5.0
STORE_READ_S = 20.0
# How long a request waits for any store in all; a file of so many MB as many seconds longer
STORE_TOTAL_S = 30.0
# What a workspace may keep where no layer of its limits says so: a disk has an end
FILES_PER_WORKSPACE = 10_000
STORAGE_BYTES_PER_WORKSPACE = 10 * 1024**3

# How long a request waits for the database, or for one batch of the ledger, before it is told that the ledger is away
DATABASE_ANSWER_S = 5.0

CATALOG_POLL_S = 0.5
# Failures that open a target's breaker, seconds between two tries of an open one, and further calls to one provider in ten
# seconds that are fine however few requests there are
BREAKER_FAILURES = 5
BREAKER_PROBE_EVERY_S = 1.0
EXTRA_CALLS_ALWAYS = 10
API_KEY_CACHE_S = 0.5
KEY_WATCH_S = 2.0

# This process: how many share the work, and how long open requests may take to end when it stops
WORKERS = env.read_count("INFERY_WORKERS", 1, least=1)
DRAIN_LIMIT_S = env.read_seconds("DRAIN_LIMIT_S", 120)

# Limits of every key of every workspace, by the field names of billing.quotas.Limits, such as
# {"max_requests_per_minute": 600}. None here: a fresh installation refuses nobody.
PLATFORM_LIMITS: dict[str, object] = {}

# No button for it: going back to a version would pass by the rules of a save.
SIMPLE_HISTORY_REVERT_DISABLED = True

# Staff: credits a person may move in a day (UTC) by his role, and above which number a second person has to agree. A
# superuser has no limit, but needs the second person as everybody does.
STAFF_LIMIT_CREDITS = {"support": 500, "finance": 100_000}
STAFF_SECOND_PERSON_ABOVE_CREDITS = 5_000
# Rows of one CSV that staff export; more are refused, not cut
STAFF_EXPORT_ROWS = 100_000

# Payments by Stripe, where both are set; else credit comes by codes and by staff. The API is Stripe's own unless told otherwise
STRIPE_SECRET_KEY = env.read("STRIPE_SECRET_KEY")
STRIPE_WEBHOOK_SECRET = env.read("STRIPE_WEBHOOK_SECRET")
STRIPE_API_URL = env.read("STRIPE_API_URL")
# What a credit costs, in the smallest units of the currency, and how many are bought at once
STRIPE_CURRENCY = env.read("STRIPE_CURRENCY", "usd").lower()
STRIPE_UNITS_PER_CREDIT = env.read_count("STRIPE_UNITS_PER_CREDIT", 1, least=1)
TOP_UP_PRESETS_CREDITS = (1_000, 2_500, 5_000, 10_000)
TOP_UP_LEAST_CREDITS, TOP_UP_MOST_CREDITS = 500, 1_000_000

# The ledger
HOLD_LEASE_S = 90.0
LEASE_RENEW_S = 30.0
SWEEP_EVERY_S = 15.0
LEDGER_FLUSH_RETRY_S = 10.0
LEDGER_RETRY_LATE_S = 15.0

# What takes its time beside requests, such as mail: rows of the database, looked for as often as this. Without names of queues
# any is valid: each webhook has one
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": []}}
TASKS_EVERY_S = 2.0

# An Idempotency-Key: how long the claim of a process that was killed keeps others waiting
IDEMPOTENCY_LEASE_S = 90.0

# PDFs: how many pages one may have; how long a conversion whose process was killed keeps others waiting; how long pages are
# kept that nobody asks for, and how many bytes of them in all
PDF_MAX_PAGES = 100
CONVERSION_LEASE_S = 150.0
PAGES_KEPT_S = 30 * 86_400.0
PAGES_MAX_BYTES = 5 * 1024**3
