"""No setting of the gateway can be named as a provider's key: whoever edits providers would have it sent to himself."""

import ast
import re
from collections.abc import Iterator

import pytest
from django.core.exceptions import ValidationError

from chat.loading.rows import check_provider
from chat.models import Provider
from tests.architecture.sources import OWN_PACKAGES, ROOT, package, python_files, tree


def documented() -> set[str]:
    """What the README's table of settings names; `ANYMAIL_...` stands for all that begin so."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Settings\n")[2].partition("\n## ")[0]
    names = set()
    for row in re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.MULTILINE):
        first, rest = (re.findall(r"`([A-Z][A-Z0-9_]+)(?:\.\.\.)?`", column) for column in row)
        names |= {*first, *(name for name in rest if "_" in name)}
    return names


def asked(module: ast.Module) -> Iterator[str]:
    """The names that code gives to `read`, `env.read_list`, `os.environ.get` and the like."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call | ast.Subscript):
            continue
        match node:
            case ast.Call(
                func=ast.Name(id=verb) | ast.Attribute(value=ast.Name(id="env"), attr=verb), args=[ast.Constant(str(name)), *_]
            ) if verb.startswith("read"):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="environ")), args=[ast.Constant(str(name)), *_]):
                yield name
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(str(name))):
                yield name


ASKED = {name for path in python_files() if package(path) in OWN_PACKAGES for name in asked(tree(path))}


def test_the_names_are_found():
    assert documented() >= {"DATABASE_URL", "STRIPE_WEBHOOK_SECRET", "OIDC_CLIENT_SECRET", "ANYMAIL_", "AWS_SECRET_ACCESS_KEY"}
    assert documented() - ASKED == {"ANYMAIL_POSTMARK_SERVER_TOKEN"}
    assert {"INFERY_TEST_SQLITE", "AWS_SESSION_TOKEN", "FIELD_ENCRYPTION_KEYS"} <= ASKED


@pytest.mark.parametrize("suffix", ["", "_FILE"])
@pytest.mark.parametrize("name", sorted(documented() | ASKED))
def test_no_setting_can_be_the_key_of_a_provider(name, suffix):
    provider = Provider(slug="x", dialect="openai", base_url="https://llm.example/v1", api_key_env=name + suffix)
    with pytest.raises(ValidationError) as refusal:
        check_provider(provider)
    assert set(refusal.value.message_dict) == {"api_key_env"}
