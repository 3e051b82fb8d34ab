"""Rows that a slow command makes, made by it once in a process of the tests and written as they came out from then on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from django.apps import apps
from django.db import transaction
from django.db.models import Model

from billing.models import AuditEvent


class PreparedRows:
    """Calling this has the same rows of one app and of the audit trail in the database as calling `make` has.

    `make` itself is called the first time, and whenever there are other rows of the app than there were before that.
    """

    def __init__(self, make: Callable[[], object], app_label: str) -> None:
        self._make = make
        self._label = app_label
        self._before: dict[type[Model], dict[object, Model]] = {}
        self._made: dict[type[Model], list[Model]] = {}

    def __call__(self) -> None:
        models: list[type[Model]] = [*apps.get_app_config(self._label).get_models(), AuditEvent]
        if not self._made:
            self._before = {model: _rows_of(model) for model in models}
            self._make()
            self._made = {model: list(self._changed(model)) for model in models}
        elif any(_keys_of(model) != self._before[model].keys() for model in models if not _is_log(model)):
            self._make()
        else:
            with transaction.atomic():  # in any order: what refers to a row is judged at its end
                for model, rows in self._made.items():
                    self._write(model, [copy.copy(row) for row in rows])

    def _changed(self, model: type[Model]) -> Iterator[Model]:
        before = self._before[model]
        for pk, row in _rows_of(model).items():
            if pk not in before or _values(row) != _values(before[pk]):
                yield row

    def _write(self, model: type[Model], rows: list[Model]) -> None:
        if _is_log(model):
            for row in rows:
                row.pk = None  # other tests write there before
        changed = [row for row in rows if row.pk in self._before[model]]
        for row in changed:
            row.save_base(raw=True)
        model._base_manager.bulk_create([row for row in rows if row not in changed])


def _is_log(model: type[Model]) -> bool:
    """Whether nothing refers to its rows, whatever their keys."""
    return model is AuditEvent or hasattr(model, "history_object")


def _rows_of(model: type[Model]) -> dict[object, Model]:
    return {row.pk: row for row in model._base_manager.order_by("pk")}


def _keys_of(model: type[Model]) -> set[object]:
    return set(model._base_manager.values_list("pk", flat=True))


def _values(row: Model) -> list[object]:
    return [getattr(row, field.attname) for field in row._meta.concrete_fields]
