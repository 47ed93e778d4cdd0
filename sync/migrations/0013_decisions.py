from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sync', '0012_audits_go_on'),
    ]

    operations = [
        migrations.AddField(
            model_name='reply',
            name='needs_decision',
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
    ]
