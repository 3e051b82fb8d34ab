"""Secrets at rest: bound to their row, and readable through a rotation of keys."""

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from infery_site import secretbox


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plaintext=st.binary(max_size=200), context=st.text(max_size=40))
def test_what_was_encrypted_comes_back_in_its_context(settings, plaintext, context):
    settings.FIELD_ENCRYPTION_KEYS = ["any text will do"]
    token = secretbox.encrypt(plaintext, context=context)
    assert secretbox.decrypt(token, context=context) == plaintext
    assert secretbox.decrypt(memoryview(token), context=context) == plaintext


def test_the_token_does_not_show_the_secret():
    token = secretbox.encrypt(b"sk-very-secret", context="provider:1")
    assert b"sk-very-secret" not in token
    assert token != secretbox.encrypt(b"sk-very-secret", context="provider:1")


def test_a_token_moved_to_another_row_is_refused():
    token = secretbox.encrypt(b"sk-very-secret", context="provider:1")
    with pytest.raises(secretbox.SecretError, match="provider:2"):
        secretbox.decrypt(token, context="provider:2")


@pytest.mark.parametrize("token", [b"", b"junk", b"gAAAAA", b"\xff" * 40])
def test_what_is_no_token_is_refused(token):
    with pytest.raises(secretbox.SecretError):
        secretbox.decrypt(token, context="provider:1")


def test_a_changed_token_is_refused():
    token = bytearray(secretbox.encrypt(b"secret", context="c"))
    token[40] ^= 1
    with pytest.raises(secretbox.SecretError):
        secretbox.decrypt(bytes(token), context="c")


@pytest.mark.parametrize("keys", [["old text", "new text"], [Fernet.generate_key().decode(), Fernet.generate_key().decode()]])
def test_rotation(settings, keys):
    old, new = keys
    settings.FIELD_ENCRYPTION_KEYS = [old]
    token = secretbox.encrypt(b"secret", context="c")
    settings.FIELD_ENCRYPTION_KEYS = [new, old]
    rotated = secretbox.rotate(token, context="c")
    settings.FIELD_ENCRYPTION_KEYS = [new]
    assert secretbox.decrypt(rotated, context="c") == b"secret"
    with pytest.raises(secretbox.SecretError):
        secretbox.decrypt(token, context="c")


def test_a_ready_fernet_key_is_used_as_it_is(settings):
    key = Fernet.generate_key().decode()
    settings.FIELD_ENCRYPTION_KEYS = [key]
    token = secretbox.encrypt(b"secret", context="c")
    assert Fernet(key).decrypt(token).endswith(b"secret")
