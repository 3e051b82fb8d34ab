"""Families of keys, budgets that know what they spent before, and no index that another one contains."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Now

import billing.models.fields
from billing.ledger import triggers

SPENT_BEFORE = """
UPDATE billing_budget SET spent_before_microcredits = paid.total FROM (
  SELECT b.id, CAST(SUM(h.settled_microcredits) AS bigint) AS total
  FROM billing_hold h CROSS JOIN {ids} JOIN billing_budget b ON b.id = {id}
  WHERE h.closed_at < b.period_started_at GROUP BY b.id
) paid WHERE paid.id = billing_budget.id
"""
IDS = {
    "sqlite": {"ids": "json_each(h.budget_ids) j", "id": "j.value"},
    "postgresql": {"ids": "jsonb_array_elements_text(h.budget_ids) j(id)", "id": "j.id::bigint"},
}


def sum_up(apps, schema_editor):
    """What the holds of each budget paid before its period began, as it was told by the clock until now."""
    schema_editor.execute(SPENT_BEFORE.format_map(IDS[schema_editor.connection.vendor]), params=None)


def install_triggers(apps, schema_editor):
    """As every migration of a table with rules of its own ends."""
    triggers.install(schema_editor)


class Migration(migrations.Migration):
    dependencies = [("billing", "0006_credit_lots")]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="family",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                help_text="The first of the keys that rolling made one of the other; empty for that one itself.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="billing.apikey",
            ),
        ),
        migrations.AddField(
            model_name="budget",
            name="spent_before_microcredits",
            field=billing.models.fields.MicrocreditsField(db_default=0, default=0, editable=False),
        ),
        migrations.AlterField(
            model_name="budget",
            name="period_started_at",
            field=models.DateTimeField(db_default=Now(), editable=False),
        ),
        migrations.AlterField(
            model_name="budget",
            name="scope_id",
            field=models.BigIntegerField(help_text="Row id of the first key of a family, the member or the workspace."),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    billing.models.fields.IsInteger("spent_before_microcredits"),
                    models.Q(("spent_before_microcredits__gte", 0)),
                ),
                name="budget_spent_before_is_a_sum",
            ),
        ),
        migrations.RunPython(sum_up, migrations.RunPython.noop),
        *[
            migrations.AlterField(
                model_name=model,
                name=name,
                field=models.ForeignKey(
                    db_index=False,
                    on_delete=django.db.models.deletion.PROTECT,
                    related_name=related_name,
                    to=f"billing.{to}",
                ),
            )
            for model, name, related_name, to in (
                ("entry", "credit_account", "credits", "account"),
                ("entry", "debit_account", "debits", "account"),
                ("hold", "account", "holds", "account"),
                ("usagerecord", "api_key", "usage_records", "apikey"),
                ("usagerecord", "workspace", "usage_records", "workspace"),
            )
        ],
        migrations.AddIndex(
            model_name="hold",
            index=models.Index(fields=["account", "created_at"], name="hold_by_account"),
        ),
        migrations.RunPython(install_triggers, migrations.RunPython.noop),
    ]
