from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sync', '0010_taken_back'),
    ]

    operations = [
        migrations.AddField(
            model_name='reply',
            name='needs_decision',
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
    ]
