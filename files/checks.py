"""System checks of files: what children are kept in on this machine (`manage.py check --deploy`)."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Info, Tags, Warning, register

from files.sandbox import current_protection


@register(Tags.security, deploy=True)
def check_sandbox(**_: Any) -> list[CheckMessage]:
    """A statement rather than a fault: where there is no box, a container or another user may do its work."""
    found = current_protection()
    hint = None if found.is_boxed else "Install bubblewrap and allow user namespaces to have PDFs converted in a box."
    messages: list[CheckMessage] = [
        Info(f"What users send is converted by {found.engine or 'nothing'} with {found}.", hint=hint, id="files.I001")
    ]
    if not found.engine:
        messages.append(
            Warning("PDFs cannot be converted.", hint="Install poppler-utils, or the package pypdfium2.", id="files.W001")
        )
    return messages
