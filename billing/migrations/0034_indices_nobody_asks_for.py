"""Takes away two indices that every request wrote and nothing asks for: holds by their key, and entries by their hold.

Neither the key of a hold nor the hold of an entry is ever deleted, so the rule that they be there asks for none of them either.
The way back makes none again: nothing misses them.
"""

from contextlib import nullcontext
from importlib import import_module

from django.db import migrations, models

patience = import_module("billing.migrations.0029_usage_by_model").patience
NOT_NEEDED = (("billing_hold", "api_key_id"), ("billing_entry", "hold_id"))


def names_of_indices(connection, cursor, table, column):
    constraints = connection.introspection.get_constraints(cursor, table)
    return [name for name, told in constraints.items() if told["index"] and not told["unique"] and told["columns"] == [column]]


def drop(apps, schema_editor):
    """Without making the table anew, as Django would on SQLite; on PostgreSQL while requests are booked."""
    connection = schema_editor.connection
    is_shared = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        names = [name for table, column in NOT_NEEDED for name in names_of_indices(connection, cursor, table, column)]
    with patience(schema_editor) if is_shared else nullcontext():
        for name in names:
            how = "CONCURRENTLY IF EXISTS" if is_shared else "IF EXISTS"
            schema_editor.execute(f"DROP INDEX {how} {schema_editor.quote_name(name)}")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("billing", "0033_ceilings_of_staff"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(drop, migrations.RunPython.noop)],
            state_operations=[
                migrations.AlterField(
                    model_name="hold",
                    name="api_key",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=models.deletion.PROTECT,
                        related_name="holds",
                        to="billing.apikey",
                    ),
                ),
                migrations.AlterField(
                    model_name="entry",
                    name="hold",
                    field=models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=models.deletion.PROTECT,
                        related_name="entries",
                        to="billing.hold",
                    ),
                ),
            ],
        ),
    ]
