"""Limits of requests per day, for keys and presets.

The tables are locked in the order in which services write them, so that whoever changes a preset meanwhile waits, and no
more.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("billing", "0029_usage_by_model"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="max_requests_daily",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="quotapreset",
            name="max_requests_daily",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="historicalquotapreset",
            name="max_requests_daily",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("max_requests_daily__isnull", True), ("max_requests_daily__gt", 0), _connector="OR"),
                name="api_key_max_requests_daily_is_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="quotapreset",
            constraint=models.CheckConstraint(
                condition=models.Q(("max_requests_daily__isnull", True), ("max_requests_daily__gt", 0), _connector="OR"),
                name="quota_preset_max_requests_daily_is_positive",
            ),
        ),
    ]
