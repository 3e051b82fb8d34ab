"""What one target makes of a request (pure)."""

from __future__ import annotations

from typing import Any

from chat.schema.request import ChatRequest
from chat.schema.route import Dialect, ModelInfo, TargetInfo


class Changes:
    """What one target makes of a request, gathered: fields to replace, and their names for the client."""

    def __init__(self, request: ChatRequest, model: ModelInfo, target: TargetInfo) -> None:
        self.request = request
        self.model = model
        self.target = target
        self.dialect: Dialect = target.provider.dialect
        self.fields: dict[str, Any] = {}
        self.names: list[str] = []
        self.json_tool = ""

    def drop(self, name: str) -> None:
        if getattr(self.request, name) is not None and name not in self.fields:
            self.fields[name] = None
            self.names.append(f"dropped={name}")

    def given(self, name: str) -> Any:
        """A field as it was fitted so far."""
        return self.fields[name] if name in self.fields else getattr(self.request, name)
