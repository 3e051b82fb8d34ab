"""The scripted provider by itself."""

from __future__ import annotations

from tests.fakes.launch import fake_provider, provider_process

__all__ = ["fake_provider", "provider_process"]
