import django.utils.timezone
from django.db import migrations, models
from django.db.models.functions import Now


def begin_when_made(apps, schema_editor):
    """Until now the newest version was in force: none begins before the one that was made before it, whatever the clock did."""
    price_of = apps.get_model("chat", "Price")
    latest = {}
    for price in price_of.objects.order_by("pk").only("pk", "model_id", "created_at"):
        began = max(price.created_at, latest.get(price.model_id, price.created_at))
        latest[price.model_id] = began
        price_of.objects.filter(pk=price.pk).update(effective_at=began)


class Migration(migrations.Migration):

    dependencies = [
        ('chat', '0007_history_and_deprecation'),
    ]

    operations = [
        migrations.AddField(
            model_name='price',
            name='effective_at',
            field=models.DateTimeField(db_default=Now(), default=django.utils.timezone.now, editable=False, help_text='From this moment on it counts.', verbose_name='in force from'),
        ),
        migrations.AddField(
            model_name='price',
            name='withdrawn_at',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddConstraint(
            model_name='price',
            constraint=models.CheckConstraint(condition=models.Q(('withdrawn_at__isnull', True), ('withdrawn_at__lt', models.F('effective_at')), _connector='OR'), name='price_is_withdrawn_before_it_begins'),
        ),
        migrations.RunPython(begin_when_made, migrations.RunPython.noop, elidable=True),
    ]
