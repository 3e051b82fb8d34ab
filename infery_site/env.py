"""Settings from the environment. Each name can also be given as NAME_FILE, the path of a file that holds the value."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import ipaddress
import math
import os
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

SEED_BYTES = 32
MOST_DIGITS = 16
_ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

# Names that are the gateway's own: those that were asked for as settings, and what libraries below read by themselves.
_names = {"PATH", "HOME", "PGPASSWORD"}
_prefixes = {"ANYMAIL_", "AWS_", "DJANGO_", "EMAIL_", "INFERY_", "OIDC_", "PROMETHEUS_", "STRIPE_"}


class EnvError(Exception):
    """A setting that cannot be used; the message names it."""


def read(name: str, default: str = "") -> str:
    """The setting NAME, or the content of the file NAME_FILE names (without surrounding white space)."""
    _names.add(name)
    return _value(name, default)


def is_own(name: str) -> bool:
    """Whether the variable is a setting of the gateway, or named like one, so that its value is sent to nobody."""
    return name.removesuffix("_FILE") in _names or name.startswith(tuple(_prefixes))


def read_foreign(name: str) -> str:
    """As `read`, of a variable that somebody named at run time. Raises EnvError if it is the gateway's own."""
    if is_own(name):
        raise EnvError(f"{name} is a setting of the gateway itself")
    return _value(name)


def _value(name: str, default: str = "") -> str:
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise EnvError(f"{name}_FILE names {path}, which cannot be read: {error.strerror}") from error
    return os.environ.get(name, default)


def read_all(prefix: str) -> dict[str, str]:
    """The values of all names that begin so, by what follows in them."""
    _prefixes.add(prefix)
    names = {name.removesuffix("_FILE") for name in os.environ if name.startswith(prefix)}
    return {name.removeprefix(prefix): read(name) for name in names}


def read_bool(name: str, *, default: bool = False) -> bool:
    text = read(name).strip().lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise EnvError(f"{name} must be true or false")


def read_list(name: str) -> list[str]:
    """A comma-separated list; empty items are dropped."""
    return [item.strip() for item in read(name).split(",") if item.strip()]


def read_choice(name: str, choices: tuple[str, ...], default: str) -> str:
    """One of the words, in any case."""
    text = read(name).strip().lower() or default
    if text not in choices:
        raise EnvError(f"{name} must be {' or '.join(choices)}")
    return text


def read_count(name: str, default: int, *, least: int = 0) -> int:
    """A whole number."""
    return _count(name, read(name).strip() or str(default), least)


def read_counts(name: str, default: tuple[int, ...], *, least: int = 0) -> list[int]:
    return [_count(name, item, least) for item in read_list(name)] or list(default)


def _count(name: str, text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < MOST_DIGITS and int(text) >= least):
        raise EnvError(f"{name} must be a whole number of at least {least}")
    return int(text)


def read_seconds(name: str, default: float) -> float:
    """Seconds, with a fraction or without."""
    try:
        seconds = float(read(name).strip() or default)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise EnvError(f"{name} must be a number of seconds")
    return seconds


def read_networks(name: str) -> list[str]:
    """A list of addresses and networks."""
    networks = read_list(name)
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise EnvError(f"{name} must list addresses or networks such as 198.51.100.0/24: {error}") from error
    return networks


def read_origins(name: str) -> list[str]:
    """A list of origins as browsers write them, or `*` for every one."""
    origins = [origin.rstrip("/").lower() for origin in read_list(name)]
    if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in origins):
        raise EnvError(f"{name} must list origins such as https://app.example.com, or be *")
    return origins


def read_url(name: str, schemes: tuple[str, ...]) -> str:
    """A URL of one of the schemes, without the slash at its end; empty without one."""
    url = read(name).strip().rstrip("/")
    try:
        parts = urlsplit(url)
        is_good = (
            parts.scheme in schemes and bool(parts.hostname or (parts.scheme == "unix" and parts.path)) and parts.port != 0
        )
    except ValueError:
        is_good = False
    if url and not is_good:
        raise EnvError(f"{name} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and name a host")
    return url


def read_seeds(name: str) -> list[str]:
    """A list of keys, each 32 bytes in base64."""
    seeds = read_list(name)
    for seed in seeds:
        try:
            is_good = len(base64.b64decode(seed, validate=True)) == SEED_BYTES
        except ValueError:
            is_good = False
        if not is_good:
            raise EnvError(
                f"{name} must list seeds of {SEED_BYTES} bytes in base64, such as: openssl rand -base64 {SEED_BYTES}"
            )
    return seeds


def state_secret(folder: Path, name: str) -> str:
    """A secret of a local run, made once and kept in the state folder, readable by its owner only."""
    path = folder / name
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text(encoding="utf-8").strip()


def state_seed(folder: Path, name: str) -> str:
    """32 bytes in base64, made from the state secret of that name."""
    return base64.b64encode(hashlib.sha256(state_secret(folder, name).encode()).digest()).decode()


# A server whose machine is gone says nothing: libpq finds out within 25 seconds instead of a quarter of an hour.
_DEAD_PEERS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
# Of libpq's other options those that say how to reach a server, and that it is the right one. Not `options`: the books rely
# on how transactions are isolated and kept, which it could change.
_REACHING = frozenset(
    {
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "channel_binding", "gssencmode"),
        *("application_name", "target_session_attrs"),
    }
)


def _libpq_options(query: str) -> dict[str, str | int]:
    """What stands behind the `?` of a URL of PostgreSQL; numbers are whole and at least 1."""
    options: dict[str, str | int] = {}
    for item in filter(None, query.split("&")):
        name, _, text = item.partition("=")
        if not re.fullmatch("[A-Za-z_]+", name):  # maybe the rest of a password, which must not be shown
            raise EnvError("DATABASE_URL must have options such as sslmode=verify-full behind its ?; one in a password is %3F")
        if name not in _REACHING | _DEAD_PEERS.keys():
            known = ", ".join(sorted(_REACHING | _DEAD_PEERS.keys()))
            raise EnvError(f"DATABASE_URL must do without the option {name}, which is none of {known}")
        if not text or name in options:
            raise EnvError(f"DATABASE_URL must name the option {name} once, with a value")
        options[name] = _count(f"DATABASE_URL's {name}", text, 1) if name in _DEAD_PEERS else unquote(text)
    return options


def database(url: str, sqlite_path: Path) -> dict[str, object]:
    """Django's settings of the database a URL names: `postgres://` or `sqlite://`; SQLite at `sqlite_path` without one.

    A socket folder is given percent-encoded as the host: `postgres://user@%2Frun%2Fpostgresql/name`. Options of libpq may
    follow: `?sslmode=verify-full&sslrootcert=/etc/ssl/database.pem`.
    """
    parts = urlsplit(url or f"sqlite:///{quote(str(sqlite_path))}")
    if parts.scheme in {"postgres", "postgresql"}:
        options = _libpq_options(parts.query)
        try:
            port = str(parts.port or "")
        except ValueError as error:
            raise EnvError("DATABASE_URL must name one host and one port") from error
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(parts.hostname or ""),
            "PORT": port,
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": _DEAD_PEERS | options,
        }
    if parts.scheme == "sqlite":
        if parts.query:
            raise EnvError("DATABASE_URL must have no options behind a ? for SQLite; one in the name of the file is %3F")
        return {
            "ENGINE": "infery_site.sqlite",
            "NAME": unquote(parts.path.removeprefix("/")) if parts.path.startswith("//") else unquote(parts.path),
            # Opening one costs more than what most of the threads ask; a file that is replaced is seen a minute later.
            "CONN_MAX_AGE": 60,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 5,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
            },
        }
    raise EnvError("DATABASE_URL must begin with postgres:// or sqlite://")


def storage(url: str, folder: Path, *, below: str = "") -> dict[str, object]:
    """Django's settings of the store of files a URL names: a folder, `file:///path`, or `s3://bucket?endpoint=...&region=...`.

    `folder` without one; `below` is a place of its own in it. Credentials of a bucket are not part of its URL: see README.
    """
    parts = urlsplit(url or folder.as_uri())
    if parts.scheme == "file" and not parts.netloc and len(parts.path) > 1:
        modes = {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}
        return {
            "BACKEND": "files.storage.FolderStorage",
            "OPTIONS": {"location": str(Path(unquote(parts.path), below)), **modes},
        }
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "s3" and parts.netloc and parts.path in {"", "/"} and options.keys() <= {"endpoint", "region"}:
        named = {
            "bucket_name": parts.netloc,
            "endpoint_url": options.get("endpoint"),
            "region_name": options.get("region"),
            "location": below,
            # Without them the client looks for them where every client of S3 does.
            "access_key": read("AWS_ACCESS_KEY_ID"),
            "secret_key": read("AWS_SECRET_ACCESS_KEY"),
            "security_token": read("AWS_SESSION_TOKEN"),
        }
        return {
            "BACKEND": "files.bucket.BucketStorage",
            "OPTIONS": {name: value for name, value in named.items() if value},
        }
    raise EnvError("STORAGE_URL must be file:///path or s3://bucket, the latter with ?endpoint=...&region=... if need be")


def mail_service(name: str) -> str:
    """The backend of a service of mail, by its name in django-anymail."""
    backend = f"anymail.backends.{name}"
    if not name.isidentifier() or importlib.util.find_spec(backend) is None:
        raise EnvError(
            f"EMAIL_SERVICE must be a name that django-anymail has, such as postmark or amazon_ses; {name!r} is none"
        )
    return f"{backend}.EmailBackend"


def mail(url: str) -> dict[str, Any]:
    """Django's settings of the mail server a URL names: `smtp://user:password@host:587` (STARTTLS) or `smtps://...`.

    Without one mail is written to standard output.
    """
    parts = urlsplit(url)
    if url and (parts.scheme not in {"smtp", "smtps"} or not parts.hostname):
        raise EnvError("EMAIL_URL must be smtp://user:password@host:587 or smtps://user:password@host:465")
    is_implicit = parts.scheme == "smtps"
    return {
        "BACKEND": f"django.core.mail.backends.{'smtp' if url else 'console'}.EmailBackend",
        "HOST": parts.hostname or "localhost",
        "PORT": parts.port or (465 if is_implicit else 587),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        # A server of this machine needs no cover.
        "USE_TLS": bool(url) and not is_implicit and parts.hostname not in {"localhost", "127.0.0.1", "::1"},
        "USE_SSL": is_implicit,
    }
