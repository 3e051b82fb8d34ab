"""What code of today can live with while it serves: columns that it need not fill, an index, and a table made anew."""

from django.db import migrations, models

from billing.ledger import triggers

ON_THE_PATH = ("ApiKey", "Account", "Hold", "Entry", "UsageRecord", "RequestTrace")


def expand(apps, schema_editor):
    for name in ON_THE_PATH:
        model = apps.get_model("billing", name)
        for field, column in (("tomorrow", models.TextField(null=True)), ("day_after", models.IntegerField(db_default=7))):
            column.set_attributes_from_name(field)
            column.model = model
            schema_editor.add_field(model, column)
    record = apps.get_model("billing", "UsageRecord")
    schema_editor.add_index(record, models.Index(fields=["model_used"], name="tomorrow_by_model"))
    old = record._meta.get_field("finish_reason")
    new = old.clone()
    new.max_length = old.max_length * 2
    new.set_attributes_from_name("finish_reason")
    new.model = record
    schema_editor.alter_field(record, old, new)
    triggers.install(schema_editor)


class Migration(migrations.Migration):
    dependencies = [("billing", "0009_staff_roles_and_credit_orders")]

    operations = [migrations.RunPython(expand, migrations.RunPython.noop)]
