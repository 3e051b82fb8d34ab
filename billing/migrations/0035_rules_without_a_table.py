"""Says two rules of rows that every request writes as alternatives: SQLite made a table of the values for each row it checked.

They mean what they meant, so PostgreSQL, which makes no such table, keeps the words it has, and so does the way back.
"""

from django.db import migrations, models

from billing.ledger import triggers

STATES = ("open", "settled", "voided", "expired")
KINDS = ("usage", "top_up", "grant", "plan", "refund", "adjustment", "expiry")
RULES = (("hold", "state", STATES, "hold_state_is_known"), ("entry", "kind", KINDS, "entry_kind_is_known"))


def rule(column, values, name):
    condition = models.Q(*((column, value) for value in values), _connector="OR")
    return models.CheckConstraint(condition=condition, name=name)


def say_anew(apps, schema_editor):
    """Each table is made anew once, with the new words in the place of the old; its triggers go with the old one."""
    if schema_editor.connection.vendor != "sqlite":
        return
    for table, column, values, name in RULES:
        schema_editor.add_constraint(apps.get_model("billing", table), rule(column, values, name))
    triggers.install(schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0034_indices_nobody_asks_for"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                operation
                for table, column, values, name in RULES
                for operation in (
                    migrations.RemoveConstraint(model_name=table, name=name),
                    migrations.AddConstraint(model_name=table, constraint=rule(column, values, name)),
                )
            ],
        ),
        migrations.RunPython(say_anew, migrations.RunPython.noop),
    ]
