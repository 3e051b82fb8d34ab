
import billing.models.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0015_announcements'),
    ]

    operations = [
        migrations.AddField(
            model_name='apikey',
            name='ceilings',
            field=models.JSONField(blank=True, editable=False, help_text='Limits, by column, that its owner may only make tighter.', null=True),
        ),
        migrations.AddField(
            model_name='budget',
            name='ceiling_microcredits',
            field=billing.models.fields.OptionalMicrocreditsField(blank=True, editable=False, help_text='Who may act on his own keys only may not set a limit above it.', null=True),
        ),
        migrations.AddField(
            model_name='budget',
            name='is_lifted',
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.AddConstraint(
            model_name='budget',
            constraint=models.CheckConstraint(condition=models.Q(('ceiling_microcredits__isnull', True), models.Q(billing.models.fields.IsInteger('ceiling_microcredits'), models.Q(('ceiling_microcredits__range', (-9000000000000000, 9000000000000000)))), _connector='OR'), name='budget_ceiling_microcredits_is_money'),
        ),
    ]
