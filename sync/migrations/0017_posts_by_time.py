from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sync', '0016_notices'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='post',
            index=models.Index(fields=['-published_at', '-id'], name='post_by_time'),
        ),
    ]
