"""Workers of yesterday's code run while today's migrations do: they must still be able to write and read every table."""

from __future__ import annotations

from django.db import models
from django.db.migrations import AddField, CreateModel, DeleteModel, RemoveField, RenameField, RenameModel
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

BEFORE_ROLLING_DEPLOYS = {"billing": 13, "chat": 7, "files": 2}
"""The newest migration of each app that needed every worker to be stopped."""
TAKEN_AWAY: set[tuple[str, str]] = set()
"""`(app, migration)` of those that take away what no running code uses any more."""


def migrations():
    for (app, name), migration in MigrationLoader(None).disk_migrations.items():
        if app in BEFORE_ROLLING_DEPLOYS and int(name[:4]) > BEFORE_ROLLING_DEPLOYS[app]:
            yield app, name, migration


def can_be_left_out(field: models.Field) -> bool:
    return field.null or field.many_to_many or field.db_default is not NOT_PROVIDED


def test_a_new_column_needs_nothing_of_code_that_does_not_know_it():
    needed = []
    for app, name, migration in migrations():
        made = {operation.name.lower() for operation in migration.operations if isinstance(operation, CreateModel)}
        for operation in migration.operations:
            is_on_old_rows = isinstance(operation, AddField) and operation.model_name.lower() not in made
            if is_on_old_rows and not can_be_left_out(operation.field):
                needed.append(f"{app}.{name}: {operation.model_name}.{operation.name} needs null or db_default")
    assert needed == []


def test_nothing_is_taken_from_code_that_still_runs():
    taken = [
        f"{app}.{name}: {operation.describe()}"
        for app, name, migration in migrations()
        for operation in migration.operations
        if isinstance(operation, RemoveField | DeleteModel | RenameField | RenameModel) and (app, name) not in TAKEN_AWAY
    ]
    assert taken == []


def test_a_column_can_be_left_out_if_the_database_fills_it():
    assert can_be_left_out(models.TextField(null=True))
    assert can_be_left_out(models.IntegerField(db_default=0))
    assert not can_be_left_out(models.IntegerField(default=0))
