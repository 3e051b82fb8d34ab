"""Finds the requests of a model, and takes away what nothing asks for: indices for the beginnings of ids.

Django makes such an index on PostgreSQL for each unique text. Three of them were written by every request.
"""

from contextlib import contextmanager

from django.db import migrations, models


@contextmanager
def patience(schema_editor):
    """Waits for whoever reads, however long that takes: nobody waits behind what is done concurrently."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        (before,) = cursor.fetchone()
        cursor.execute("SET lock_timeout = 0")
        try:
            yield
        finally:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [before])


class AddIndexWhileServing(migrations.AddIndex):
    """Without keeping requests from being booked meanwhile, which PostgreSQL can.

    What an attempt that did not come to its end left behind is made anew.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        name = schema_editor.quote_name(self.index.name)
        if schema_editor.connection.vendor == "postgresql":
            with patience(schema_editor):
                schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                schema_editor.add_index(model, self.index, concurrently=True)
        else:
            schema_editor.execute(f"DROP INDEX IF EXISTS {name}")
            schema_editor.add_index(model, self.index)


def drop_indices_of_beginnings(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    tables = [apps.get_model("billing", name)._meta.db_table for name in ("usagerecord", "requesttrace", "entry")]
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename = ANY(%s) AND indexname ~ %s",
            [tables, "_[0-9a-f]{8}_like$"],
        )
        names = [name for (name,) in cursor.fetchall()]
    with patience(schema_editor):
        for name in names:
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(name)}")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("billing", "0028_alerts_of_quotas_fallbacks_models"),
    ]

    operations = [
        AddIndexWhileServing(
            model_name="usagerecord",
            index=models.Index(fields=["workspace", "model_used", "created_at"], name="usage_by_model"),
        ),
        AddIndexWhileServing(
            model_name="usagerecord",
            index=models.Index(
                fields=["workspace", "model_asked", "created_at"],
                condition=models.Q(("model_asked", models.F("model_used")), _negated=True),
                name="usage_by_other_model",
            ),
        ),
        migrations.RunPython(drop_indices_of_beginnings, migrations.RunPython.noop),
    ]
