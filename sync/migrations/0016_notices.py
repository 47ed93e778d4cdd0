from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sync', '0015_stalled_bound'),
    ]

    operations = [
        migrations.AddField(
            model_name='account',
            name='notice',
            field=models.TextField(blank=True, db_default='', default='', editable=False, verbose_name='notice'),
        ),
        migrations.AddField(
            model_name='account',
            name='notice_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
