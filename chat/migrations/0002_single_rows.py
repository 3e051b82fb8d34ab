"""The rows of which there is one each: the stamp of the catalogue and its defaults."""

from __future__ import annotations

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def make_rows(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for name in ("CatalogStamp", "CatalogDefault"):
        apps.get_model("chat", name).objects.using(schema_editor.connection.alias).get_or_create(singleton=True)


class Migration(migrations.Migration):
    dependencies = [("chat", "0001_initial")]

    operations = [migrations.RunPython(make_rows, migrations.RunPython.noop)]
