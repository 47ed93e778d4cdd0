import django.core.validators
from django.db import migrations, models


def raise_stalled_after(apps, schema_editor):
    """Less had no effect."""
    apps.get_model("sync", "Account").objects.filter(stalled_after_s__lt=120).update(
        stalled_after_s=120
    )


class Migration(migrations.Migration):

    dependencies = [
        ('sync', '0014_own_addresses'),
    ]

    operations = [
        migrations.AlterField(
            model_name='account',
            name='stalled_after_s',
            field=models.PositiveIntegerField(default=300, help_text='Without a sync for this long, or for two intervals where they are longer, the account is reported as stalled. At least 120.', validators=[django.core.validators.MinValueValidator(120), django.core.validators.MaxValueValidator(86400)], verbose_name='stalled after (s)'),
        ),
        migrations.RunPython(raise_stalled_after, migrations.RunPython.noop),
    ]
