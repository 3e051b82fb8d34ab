
import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('chat', '0008_scheduled_prices'),
    ]

    operations = [
        migrations.AddField(
            model_name='catalogmodel',
            name='image_base_tokens',
            field=models.PositiveIntegerField(blank=True, help_text='Empty: what is usual.', null=True, validators=[django.core.validators.MaxValueValidator(100000)], verbose_name='tokens per image'),
        ),
        migrations.AddField(
            model_name='catalogmodel',
            name='image_long_side_pixels',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100000)], verbose_name='pixels of the long side, at most'),
        ),
        migrations.AddField(
            model_name='catalogmodel',
            name='image_most_tiles',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000000)], verbose_name='tiles, at most'),
        ),
        migrations.AddField(
            model_name='catalogmodel',
            name='image_tile_pixels',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100000)], verbose_name='pixels per side of a tile'),
        ),
        migrations.AddField(
            model_name='catalogmodel',
            name='image_tile_tokens',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MaxValueValidator(100000)], verbose_name='tokens per tile'),
        ),
        migrations.AddField(
            model_name='historicalcatalogmodel',
            name='image_base_tokens',
            field=models.PositiveIntegerField(blank=True, help_text='Empty: what is usual.', null=True, validators=[django.core.validators.MaxValueValidator(100000)], verbose_name='tokens per image'),
        ),
        migrations.AddField(
            model_name='historicalcatalogmodel',
            name='image_long_side_pixels',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100000)], verbose_name='pixels of the long side, at most'),
        ),
        migrations.AddField(
            model_name='historicalcatalogmodel',
            name='image_most_tiles',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000000)], verbose_name='tiles, at most'),
        ),
        migrations.AddField(
            model_name='historicalcatalogmodel',
            name='image_tile_pixels',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100000)], verbose_name='pixels per side of a tile'),
        ),
        migrations.AddField(
            model_name='historicalcatalogmodel',
            name='image_tile_tokens',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MaxValueValidator(100000)], verbose_name='tokens per tile'),
        ),
        migrations.AddConstraint(
            model_name='catalogmodel',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('image_tile_pixels__isnull', True), ('image_tile_pixels__gt', 0), _connector='OR'), models.Q(('image_long_side_pixels__isnull', True), ('image_long_side_pixels__gt', 0), _connector='OR')), name='model_image_sizes_are_positive'),
        ),
    ]
