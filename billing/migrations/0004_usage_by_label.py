"""The newest request of a label in a workspace, found without reading the others that bear it."""

from django.db import migrations, models

from billing.ledger import triggers


def install_triggers(apps, schema_editor):
    """As every migration of a table with rules of its own ends."""
    triggers.install(schema_editor)


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_members_presets_limits")]

    operations = [
        migrations.RemoveIndex(model_name="usagerecord", name="usage_by_request_id"),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(fields=["request_id", "workspace", "created_at"], name="usage_by_label"),
        ),
        migrations.RunPython(install_triggers, migrations.RunPython.noop),
    ]
