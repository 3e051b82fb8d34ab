"""The ledger's triggers, and the accounts every entry needs on its other side."""

from django.db import migrations

from billing.ledger import triggers

INTERNAL_KINDS = ("world", "revenue", "promo")


def install(apps, schema_editor):
    account_model = apps.get_model("billing", "Account")
    for kind in INTERNAL_KINDS:
        account_model.objects.using(schema_editor.connection.alias).get_or_create(kind=kind, workspace=None)
    triggers.install(schema_editor)


def remove(apps, schema_editor):
    triggers.remove(schema_editor)


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [migrations.RunPython(install, remove)]
