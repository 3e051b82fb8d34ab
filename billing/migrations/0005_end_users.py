"""The caller's own user on each usage record, so that usage can be told apart by him."""

from django.db import migrations, models

from billing.ledger import triggers


def install_triggers(apps, schema_editor):
    """As every migration of a table with rules of its own ends."""
    triggers.install(schema_editor)


class Migration(migrations.Migration):
    dependencies = [("billing", "0004_usage_by_label")]

    operations = [
        migrations.AddField(
            model_name="usagerecord",
            name="end_user",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="The caller's own user, as the request names him.",
                max_length=128,
            ),
        ),
        migrations.RunPython(install_triggers, migrations.RunPython.noop),
    ]
