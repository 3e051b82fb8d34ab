"""Says two rules of rows that every request writes as alternatives: SQLite made a table of the values for each row it checked.

They mean what they meant, so PostgreSQL, which makes no such table, keeps the words it has.
"""

from functools import partial

from django.db import migrations, models

STATES = ("open", "settled", "voided", "expired")
KINDS = ("usage", "top_up", "grant", "plan", "refund", "adjustment", "expiry")
RULES = (("hold", "state", STATES, "hold_state_is_known"), ("entry", "kind", KINDS, "entry_kind_is_known"))


def as_list(column, values):
    return f'CHECK ("{column}" IN ({", ".join([repr(value) for value in values])}))'


def as_alternatives(column, values):
    alternatives = [f'"{column}" = {value!r}' for value in values]
    return f"CHECK (({' OR '.join(alternatives)}))"


def say_anew(apps, schema_editor, old, new):
    """Changes the words where SQLite keeps them, as it documents for rules of rows: Django would copy both tables, and nobody
    could write meanwhile. The triggers stay, and so do words that are others than expected."""
    if schema_editor.connection.vendor != "sqlite":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("PRAGMA schema_version")
        (version,) = cursor.fetchone()
        cursor.execute("PRAGMA writable_schema = ON")
        try:
            for table, column, values, name in RULES:
                cursor.execute(
                    "UPDATE sqlite_master SET sql = replace(sql, %s, %s) WHERE type = 'table' AND name = %s",
                    [*(f'CONSTRAINT "{name}" {words(column, values)}' for words in (old, new)), f"billing_{table}"],
                )
            # So that every connection reads the rules again.
            cursor.execute(f"PRAGMA schema_version = {version + 1}")
        finally:
            cursor.execute("PRAGMA writable_schema = RESET")
        for table, *_ in RULES:  # Fails, and is undone, if they could not be read.
            cursor.execute(f"SELECT 1 FROM billing_{table} LIMIT 1")


def rule(column, values, name):
    condition = models.Q(*((column, value) for value in values), _connector="OR")
    return models.CheckConstraint(condition=condition, name=name)


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
            database_operations=[
                migrations.RunPython(
                    partial(say_anew, old=as_list, new=as_alternatives), partial(say_anew, old=as_alternatives, new=as_list)
                )
            ],
        ),
    ]
