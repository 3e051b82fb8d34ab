"""Members and their roles, presets of limits, and the limits of tokens and budgets of a key."""

import billing.models.fields
import billing.models.keys
import billing.models.workspaces
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from billing.ledger import triggers


def fill_rows(apps, schema_editor):
    """Gives each key and each budget that is there already an id, and each key the budget it has."""
    for model, new_id in (("ApiKey", billing.models.keys.new_key_id), ("Budget", billing.models.keys.new_budget_id)):
        rows = apps.get_model("billing", model).objects.using(schema_editor.connection.alias)
        for pk in list(rows.filter(public_id=None).values_list("pk", flat=True)):
            rows.filter(pk=pk).update(public_id=new_id())
    keys = apps.get_model("billing", "ApiKey").objects.using(schema_editor.connection.alias)
    budgets = apps.get_model("billing", "Budget").objects.using(schema_editor.connection.alias)
    # A key's monthly budget follows the key's limits from now on.
    for key_id, limit in budgets.filter(scope="key", period="month").values_list("scope_id", "limit_microcredits"):
        keys.filter(pk=key_id).update(max_budget_monthly_microcredits=limit)
    # PostgreSQL alters no table with checks of foreign keys outstanding.
    schema_editor.connection.check_constraints()


def install_triggers(apps, schema_editor):
    """SQLite makes tables anew above, and rules of other tables that name them may go with the old ones."""
    triggers.install(schema_editor)


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0002_ledger_triggers'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='apikey',
            name='max_budget_monthly_microcredits',
            field=billing.models.fields.OptionalMicrocreditsField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='max_tokens_daily',
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='max_tokens_per_minute',
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='apikey',
            name='public_id',
            field=models.CharField(editable=False, max_length=40, null=True),
        ),
        migrations.AddField(
            model_name='budget',
            name='public_id',
            field=models.CharField(editable=False, max_length=40, null=True),
        ),
        migrations.RunPython(fill_rows, migrations.RunPython.noop),
        migrations.AlterField(
            model_name='apikey',
            name='public_id',
            field=models.CharField(default=billing.models.keys.new_key_id, editable=False, max_length=40, unique=True),
        ),
        migrations.AlterField(
            model_name='budget',
            name='public_id',
            field=models.CharField(default=billing.models.keys.new_budget_id, editable=False, max_length=40, unique=True),
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=billing.models.workspaces.new_member_id, editable=False, max_length=40, unique=True)),
                ('role', models.CharField(choices=[('owner', 'Owner'), ('admin', 'Admin'), ('developer', 'Developer'), ('billing', 'Billing'), ('viewer', 'Viewer')], max_length=12)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('removed_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='memberships', to=settings.AUTH_USER_MODEL)),
                ('workspace', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='memberships', to='billing.workspace')),
            ],
        ),
        migrations.AddField(
            model_name='apikey',
            name='owner',
            field=models.ForeignKey(blank=True, help_text='The member whose key it is; empty for one that commands or staff made.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='api_keys', to='billing.membership'),
        ),
        migrations.CreateModel(
            name='QuotaPreset',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=billing.models.keys.new_preset_id, editable=False, max_length=40, unique=True)),
                ('name', models.CharField(max_length=120)),
                ('allowed_models', models.JSONField(default=billing.models.keys.every_model, help_text='Model slugs, or ["*"] for every model.')),
                ('max_requests_per_minute', models.PositiveIntegerField(blank=True, null=True)),
                ('max_tokens_per_minute', models.PositiveBigIntegerField(blank=True, null=True)),
                ('max_tokens_daily', models.PositiveBigIntegerField(blank=True, null=True)),
                ('max_concurrent_requests', models.PositiveIntegerField(blank=True, null=True)),
                ('max_budget_monthly_microcredits', billing.models.fields.OptionalMicrocreditsField(blank=True, help_text='Of each key.', null=True)),
                ('max_file_size_bytes', models.PositiveBigIntegerField(blank=True, null=True)),
                ('max_files_per_workspace', models.PositiveIntegerField(blank=True, null=True)),
                ('max_storage_bytes_per_workspace', models.PositiveBigIntegerField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('workspace', models.ForeignKey(blank=True, help_text='Who may use it; empty for every workspace.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='presets', to='billing.workspace')),
            ],
        ),
        migrations.AddField(
            model_name='membership',
            name='preset',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='memberships', to='billing.quotapreset'),
        ),
        migrations.AddField(
            model_name='apikey',
            name='preset',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='api_keys', to='billing.quotapreset'),
        ),
        migrations.AddField(
            model_name='workspace',
            name='plan',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='workspaces', to='billing.quotapreset'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(('max_tokens_per_minute__isnull', True), ('max_tokens_per_minute__gt', 0), _connector='OR'), name='api_key_max_tokens_per_minute_is_positive'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(('max_tokens_daily__isnull', True), ('max_tokens_daily__gt', 0), _connector='OR'), name='api_key_max_tokens_daily_is_positive'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(('max_budget_monthly_microcredits__isnull', True), ('max_budget_monthly_microcredits__gte', 0), _connector='OR'), name='api_key_budget_is_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(('max_budget_monthly_microcredits__isnull', True), models.Q(billing.models.fields.IsInteger('max_budget_monthly_microcredits'), models.Q(('max_budget_monthly_microcredits__range', (-9000000000000000, 9000000000000000)))), _connector='OR'), name='api_key_max_budget_monthly_microcredits_is_money'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('max_requests_per_minute__isnull', True), ('max_requests_per_minute__gt', 0), _connector='OR'), name='quota_preset_max_requests_per_minute_is_positive'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('max_tokens_per_minute__isnull', True), ('max_tokens_per_minute__gt', 0), _connector='OR'), name='quota_preset_max_tokens_per_minute_is_positive'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('max_tokens_daily__isnull', True), ('max_tokens_daily__gt', 0), _connector='OR'), name='quota_preset_max_tokens_daily_is_positive'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('max_concurrent_requests__isnull', True), ('max_concurrent_requests__gt', 0), _connector='OR'), name='quota_preset_max_concurrent_requests_is_positive'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('max_budget_monthly_microcredits__isnull', True), ('max_budget_monthly_microcredits__gte', 0), _connector='OR'), name='quota_preset_budget_is_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='quotapreset',
            constraint=models.CheckConstraint(condition=models.Q(('max_budget_monthly_microcredits__isnull', True), models.Q(billing.models.fields.IsInteger('max_budget_monthly_microcredits'), models.Q(('max_budget_monthly_microcredits__range', (-9000000000000000, 9000000000000000)))), _connector='OR'), name='quota_preset_max_budget_monthly_microcredits_is_money'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.CheckConstraint(condition=models.Q(('role__in', ['owner', 'admin', 'developer', 'billing', 'viewer'])), name='membership_role_is_known'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.UniqueConstraint(condition=models.Q(('removed_at__isnull', True)), fields=('workspace', 'user'), name='membership_is_one_per_person'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.UniqueConstraint(condition=models.Q(('role', 'owner')), fields=('workspace',), name='membership_of_owner_is_one_per_workspace'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('role', 'owner'), _negated=True), ('removed_at__isnull', True), _connector='OR'), name='membership_of_owner_does_not_end'),
        ),
        migrations.RunPython(install_triggers, migrations.RunPython.noop),
    ]
