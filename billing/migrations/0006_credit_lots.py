"""Lots: what is left of each credit; and plans whose credits come every month."""

import billing.models.fields
import django.db.models.deletion
from django.db import migrations, models

from billing.ledger import triggers


def fill_lots(apps, schema_editor):
    """Makes the lots of the credits that are there already: what is left is of those that are spent last."""
    alias = schema_editor.connection.alias
    accounts, entries, lots = (apps.get_model("billing", name).objects.using(alias) for name in ("Account", "Entry", "CreditLot"))
    lot = apps.get_model("billing", "CreditLot")
    for account in accounts.filter(kind="workspace"):
        left, made = account.posted_microcredits, []
        credits = entries.filter(credit_account=account).order_by(models.F("expires_at").desc(nulls_first=True), "-pk")
        for entry in credits.iterator():
            of_this = min(left, entry.amount_microcredits)
            left -= of_this
            made.append(lot(entry=entry, account=account, expires_at=entry.expires_at, left_microcredits=of_this))
        lots.bulk_create(made, batch_size=500)
    newest = entries.aggregate(id=models.Max("pk"))["id"] or 0
    accounts.filter(kind="workspace").update(lots_as_of_entry=newest)
    # PostgreSQL alters no table with checks of foreign keys outstanding.
    schema_editor.connection.check_constraints()


def install_triggers(apps, schema_editor):
    """SQLite makes tables anew above, and the lots have rules of their own."""
    triggers.install(schema_editor)


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0005_end_users'),
    ]

    operations = [
        migrations.CreateModel(
            name='CreditLot',
            fields=[
                ('entry', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='lot', serialize=False, to='billing.entry')),
                ('expires_at', models.DateTimeField(blank=True, help_text='As its entry says.', null=True)),
                ('left_microcredits', billing.models.fields.MicrocreditsField()),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='entry',
            name='entry_kind_is_known',
        ),
        migrations.AddField(
            model_name='account',
            name='lots_as_of_entry',
            field=models.BigIntegerField(default=0, editable=False, help_text='Id of the newest entry that what is left of the lots shows.'),
        ),
        migrations.AddField(
            model_name='quotapreset',
            name='has_rollover',
            field=models.BooleanField(default=False, help_text='What is left of a month may be spent in the next one too.'),
        ),
        migrations.AddField(
            model_name='quotapreset',
            name='max_rollover_microcredits',
            field=billing.models.fields.OptionalMicrocreditsField(blank=True, help_text='At most so much of it.', null=True),
        ),
        migrations.AddField(
            model_name='quotapreset',
            name='monthly_microcredits',
            field=billing.models.fields.OptionalMicrocreditsField(blank=True, help_text='Given each month to a workspace whose plan this is.', null=True),
        ),
        migrations.AddField(
            model_name='workspace',
            name='plan_renews_at',
            field=models.DateTimeField(blank=True, editable=False, help_text="When the plan's credits come next; empty if they never came.", null=True),
        ),
        migrations.AddField(
            model_name='workspace',
            name='renewal_day',
            field=models.PositiveSmallIntegerField(blank=True, editable=False, help_text="Day of the month on which the plan's credits come, in UTC.", null=True),
        ),
        migrations.AlterField(
            model_name='entry',
            name='kind',
            field=models.CharField(choices=[('usage', 'Usage'), ('top_up', 'Top-up'), ('grant', 'Grant'), ('plan', 'Plan credits'), ('refund', 'Refund'), ('adjustment', 'Adjustment'), ('expiry', 'Expiry')], max_length=12),
        ),
        migrations.AddIndex(
            model_name='workspace',
            index=models.Index(condition=models.Q(('plan__isnull', False)), fields=['plan_renews_at'], name='workspace_by_renewal'),
        ),
        migrations.AddConstraint(
            model_name='entry',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['usage', 'top_up', 'grant', 'plan', 'refund', 'adjustment', 'expiry'])), name='entry_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('monthly_microcredits__isnull', True), ('monthly_microcredits__gt', 0), _connector='OR'), name='quota_preset_monthly_microcredits_is_positive'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('max_rollover_microcredits__isnull', True), models.Q(('has_rollover', True), ('max_rollover_microcredits__gte', 0)), _connector='OR'), name='quota_preset_max_rollover_is_of_a_rollover'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('has_rollover', False), ('monthly_microcredits__isnull', False), _connector='OR'), name='quota_preset_rollover_is_of_monthly_credits'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('monthly_microcredits__isnull', True), models.Q(billing.models.fields.IsInteger('monthly_microcredits'), models.Q(('monthly_microcredits__range', (-9000000000000000, 9000000000000000)))), _connector='OR'), name='quota_preset_monthly_microcredits_is_money'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('max_rollover_microcredits__isnull', True), models.Q(billing.models.fields.IsInteger('max_rollover_microcredits'), models.Q(('max_rollover_microcredits__range', (-9000000000000000, 9000000000000000)))), _connector='OR'), name='quota_preset_max_rollover_microcredits_is_money'),
        ),
        migrations.AddField(
            model_name='creditlot',
            name='account',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='lots', to='billing.account'),
        ),
        migrations.AddIndex(
            model_name='creditlot',
            index=models.Index(condition=models.Q(('left_microcredits__gt', 0)), fields=['account'], name='credit_lot_left_by_account'),
        ),
        migrations.AddIndex(
            model_name='creditlot',
            index=models.Index(condition=models.Q(('expires_at__isnull', False), ('left_microcredits__gt', 0)), fields=['expires_at'], name='credit_lot_left_by_expiry'),
        ),
        migrations.AddConstraint(
            model_name='creditlot',
            constraint=models.CheckConstraint(condition=models.Q(('left_microcredits__gte', 0)), name='credit_lot_left_is_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='creditlot',
            constraint=models.CheckConstraint(condition=models.Q(('left_microcredits__isnull', True), models.Q(billing.models.fields.IsInteger('left_microcredits'), models.Q(('left_microcredits__range', (-9000000000000000, 9000000000000000)))), _connector='OR'), name='credit_lot_left_microcredits_is_money'),
        ),
        migrations.RunPython(fill_lots, migrations.RunPython.noop),
        migrations.RunPython(install_triggers, migrations.RunPython.noop),
    ]
