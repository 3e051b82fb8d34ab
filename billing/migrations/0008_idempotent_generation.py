from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("billing", "0007_key_families"),
    ]

    operations = [
        migrations.AddField(
            model_name="idempotentreply",
            name="generation",
            field=models.CharField(
                blank=True, default="", help_text="What the first request may be charged as.", max_length=64
            ),
        ),
    ]
