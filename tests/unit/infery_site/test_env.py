import base64
import stat
from pathlib import Path

import pytest

from infery_site import env


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("A_SETTING", "A_SETTING_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_a_value_comes_from_its_name_or_its_default(monkeypatch):
    assert env.read("A_SETTING", "default") == "default"
    monkeypatch.setenv("A_SETTING", "given")
    assert env.read("A_SETTING", "default") == "given"


def test_a_file_wins_over_the_name_and_loses_its_last_newline(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("from file\n")
    monkeypatch.setenv("A_SETTING", "given")
    monkeypatch.setenv("A_SETTING_FILE", str(tmp_path / "secret"))
    assert env.read("A_SETTING") == "from file"


def test_a_file_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("A_SETTING_FILE", str(tmp_path / "missing"))
    with pytest.raises(env.EnvError, match="A_SETTING_FILE"):
        env.read("A_SETTING")


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("Yes", True), ("off", False), ("FALSE", False), ("", False)])
def test_booleans(monkeypatch, text, expected):
    monkeypatch.setenv("A_SETTING", text)
    assert env.read_bool("A_SETTING") is expected


def test_a_boolean_that_is_neither_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("A_SETTING", "maybe")
    with pytest.raises(env.EnvError, match="A_SETTING"):
        env.read_bool("A_SETTING")


def test_lists_drop_empty_items(monkeypatch):
    monkeypatch.setenv("A_SETTING", " a, ,b,")
    assert env.read_list("A_SETTING") == ["a", "b"]


def test_a_local_secret_is_made_once_and_readable_by_its_owner_only(tmp_path):
    folder = tmp_path / "state"
    first = env.state_secret(folder, "secret_key")
    assert len(first) >= 64
    assert env.state_secret(folder, "secret_key") == first
    assert stat.S_IMODE((folder / "secret_key").stat().st_mode) == 0o600


def test_a_seed_is_32_bytes_made_from_its_secret_alone(tmp_path):
    seed = env.state_seed(tmp_path, "receipt_signing_key")
    assert len(base64.b64decode(seed, validate=True)) == 32
    assert env.state_seed(tmp_path, "receipt_signing_key") == seed != env.state_seed(tmp_path, "other")
    (tmp_path / "receipt_signing_key").write_text("another")
    assert env.state_seed(tmp_path, "receipt_signing_key") != seed


def test_sqlite_is_the_default_and_durable(tmp_path):
    database = env.database("", tmp_path / "gateway.sqlite3")
    assert database["ENGINE"] == "infery_site.sqlite"
    assert database["NAME"] == str(tmp_path / "gateway.sqlite3")
    assert "synchronous=FULL" in database["OPTIONS"]["init_command"]


def test_a_sqlite_url_names_its_file():
    assert env.database("sqlite:////srv/gateway%20data/db.sqlite3", None)["NAME"] == "/srv/gateway data/db.sqlite3"


def test_a_postgresql_url_is_taken_apart():
    database = env.database("postgres://user:p%40ss@db.example:5433/name", None)
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert [database[part] for part in ("USER", "PASSWORD", "HOST", "PORT", "NAME")] == [
        "user",
        "p@ss",
        "db.example",
        "5433",
        "name",
    ]


def test_a_postgresql_url_may_name_a_socket_folder():
    assert env.database("postgres://user@%2Frun%2Fpostgresql/name", None)["HOST"] == "/run/postgresql"


def test_options_of_a_postgresql_url_count_over_the_usual_ones():
    usual = env.database("postgres://db.example/name", None)["OPTIONS"]
    url = "postgres://db.example/name?sslmode=verify-full&sslrootcert=%2Fetc%2Fa+b.pem&connect_timeout=9&application_name=x%20y"
    assert env.database(url, None)["OPTIONS"] == usual | {
        "sslmode": "verify-full",
        "sslrootcert": "/etc/a+b.pem",
        "connect_timeout": 9,
        "application_name": "x y",
    }
    assert env.database("postgres://db.example/name?", None)["OPTIONS"] == usual


@pytest.mark.parametrize(
    ("url", "words"),
    [
        *(
            (f"postgres://db/name?sslmode=require&{name}=1", f" {name}")
            for name in ("options", "service", "pool", "SSLMODE", "x")
        ),
        ("postgres://db/name?sslmode", "sslmode once"),
        ("postgres://db/name?sslmode=verify-full&sslmode=disable", "sslmode once"),
        ("postgres://db/name?connect_timeout=soon", "connect_timeout must be a whole number"),
        ("postgres://user:pass?hunter2@db/name", "%3F"),
        ("sqlite:////srv/db.sqlite3?timeout=20", "SQLite"),
    ],
)
def test_an_option_of_a_database_that_would_not_count_is_refused_by_name(url, words):
    with pytest.raises(env.EnvError, match=r"^DATABASE_URL.* must") as refusal:
        env.database(url, None)
    assert words in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_a_state_folder_may_have_any_name():
    assert env.database("", Path("/srv/100%25 ? #1/db.sqlite3"))["NAME"] == "/srv/100%25 ? #1/db.sqlite3"


@pytest.mark.parametrize("url", ["mysql://localhost/name", "postgres://one:5432,two:5432/name", "postgres://one:port/name"])
def test_another_database_is_refused(url):
    with pytest.raises(env.EnvError, match="DATABASE_URL"):
        env.database(url, Path("/unused"))


@pytest.mark.parametrize("url", ["", "file:///srv/files"])
def test_files_are_kept_in_a_folder(url):
    found = env.storage(url, Path("/var/state/my files"))
    location = "/srv/files" if url else "/var/state/my files"
    modes = {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}
    assert found == {"BACKEND": "files.storage.FolderStorage", "OPTIONS": {"location": location, **modes}}


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://bucket", {"bucket_name": "bucket"}),
        (
            "s3://my-bucket/?endpoint=https%3A%2F%2Fs3.example.com%3A9000&region=eu-west-1",
            {"bucket_name": "my-bucket", "endpoint_url": "https://s3.example.com:9000", "region_name": "eu-west-1"},
        ),
        (
            "s3://bucket?endpoint=http://127.0.0.1:9000",
            {"bucket_name": "bucket", "endpoint_url": "http://127.0.0.1:9000"},
        ),
    ],
)
def test_files_are_kept_in_a_bucket(url, options):
    assert env.storage(url, Path("/unused")) == {"BACKEND": "files.bucket.BucketStorage", "OPTIONS": options}


@pytest.mark.parametrize("url", ["", "file:///srv/files", "s3://bucket"])
def test_a_store_has_places_of_their_own(url):
    """For what is no file of a workspace."""
    location = env.storage(url, Path("/var/files"), below="pages")["OPTIONS"]["location"]
    assert location == {"": "/var/files/pages", "file:///srv/files": "/srv/files/pages", "s3://bucket": "pages"}[url]


@pytest.mark.parametrize(
    "url", ["s3://", "s3://bucket/folder", "s3://bucket?key=1", "file://host/path", "file:///", "/srv", "gs://b"]
)
def test_a_store_that_cannot_be_used_is_named(url):
    with pytest.raises(env.EnvError, match="STORAGE_URL"):
        env.storage(url, Path("/unused"))


def test_all_names_of_one_beginning(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("ANYMAIL_POSTMARK_SERVER_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("ANYMAIL_OTHER", "value")
    assert env.read_all("ANYMAIL_") == {"POSTMARK_SERVER_TOKEN": "secret", "OTHER": "value"}


def read_port_list(name):
    return env.read_counts(name, (80, 443), least=1)


def read_word(name):
    return env.read_choice(name, ("open", "closed"), "open")


READERS = [
    (read_word, "", "open"),
    (read_word, " Closed", "closed"),
    (lambda name: env.read_count(name, 7), "", 7),
    (lambda name: env.read_count(name, 7), "0", 0),
    (read_port_list, "", [80, 443]),
    (read_port_list, "8080, 8443", [8080, 8443]),
    (lambda name: env.read_seconds(name, 120), "", 120.0),
    (lambda name: env.read_seconds(name, 120), "0.5", 0.5),
    (env.read_networks, "10.0.0.1, 2001:db8::/32", ["10.0.0.1", "2001:db8::/32"]),
    (env.read_origins, "https://App.example/, http://localhost:3000", ["https://app.example", "http://localhost:3000"]),
    (env.read_origins, "*", ["*"]),
    (env.read_origins, "", []),
    (env.read_seeds, f"{'A' * 43}=", [f"{'A' * 43}="]),
    (lambda name: env.read_url(name, ("https",)), "https://gateway.example/", "https://gateway.example"),
    (lambda name: env.read_url(name, ("redis", "unix")), "redis://:secret@[::1]:6379/1", "redis://:secret@[::1]:6379/1"),
    (lambda name: env.read_url(name, ("redis", "unix")), "unix:///run/redis.sock", "unix:///run/redis.sock"),
]


@pytest.mark.parametrize(("reader", "text", "value"), READERS)
def test_values_of_their_kinds(monkeypatch, reader, text, value):
    monkeypatch.setenv("SOME_NAME", text)
    assert reader("SOME_NAME") == value


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (read_word, "close"),
        *[(lambda name: env.read_count(name, 1, least=1), text) for text in ("0", "-1", "1.5", "x", "9" * 30, "\u0661")],
        (read_port_list, "80,http"),
        *[(lambda name: env.read_seconds(name, 1), text) for text in ("-1", "nan", "inf", "two")],
        *[(env.read_networks, text) for text in ("proxy", "10.0.0.1/24", "*")],
        *[
            (env.read_origins, text)
            for text in (
                "app.example",
                "https://",
                "https://a/path",
                "https://a?b",
                "https://u@a",
                "https://a:x",
                "ftp://a",
                "https://*.a.example",
            )
        ],
        *[(env.read_seeds, text) for text in ("short", "A" * 43, f"{'A' * 43}=,x")],
        *[
            (lambda name: env.read_url(name, ("https",)), text)
            for text in ("gateway.example", "http://a", "https://", "https://a:x")
        ],
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(monkeypatch, reader, text):
    """And does not stand in the message: it may be a secret."""
    monkeypatch.setenv("SOME_NAME", text)
    with pytest.raises(env.EnvError, match=r"^SOME_NAME must"):
        reader("SOME_NAME")


def test_services_of_mail():
    assert env.mail_service("postmark") == "anymail.backends.postmark.EmailBackend"
    for name in ("nosuch", "post.mark", ""):
        with pytest.raises(env.EnvError, match="EMAIL_SERVICE"):
            env.mail_service(name)


def test_credentials_of_a_bucket_may_stand_in_files(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("hidden\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "known")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "secret"))
    options = env.storage("s3://bucket", Path("/unused"))["OPTIONS"]
    assert options == {"bucket_name": "bucket", "access_key": "known", "secret_key": "hidden"}
