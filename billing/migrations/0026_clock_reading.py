
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0022_payments'),
    ]

    operations = [
        migrations.CreateModel(
            name='ClockReading',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('singleton', models.BooleanField(default=True, editable=False, unique=True)),
                ('now', models.DateTimeField(help_text="The database's clock.")),
                ('boot', models.CharField(blank=True, max_length=64)),
                ('monotonic', models.DurationField()),
                ('watched_since', models.DurationField()),
                ('steady_from', models.DurationField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('singleton', True)), name='clock_reading_is_one_row')],
            },
        ),
    ]
