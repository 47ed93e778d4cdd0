import django.db.models.deletion
from django.db import migrations, models

# The index (conversation, -sent_at, -id) begins with the conversation as well: this one served no
# query, and cost 7 % of a first write. By SQL, as Django would make the foreign key anew, checked at
# commit and over all messages. Names are Django's own.
DROP = 'DROP INDEX IF EXISTS "sync_message_conversation_id_c022cfa0"'
CREATE = 'CREATE INDEX "sync_message_conversation_id_c022cfa0" ON sync_message (conversation_id)'


class Migration(migrations.Migration):

    dependencies = [
        ('sync', '0008_totals'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(DROP, CREATE)],
            state_operations=[
                migrations.AlterField(
                    model_name='message',
                    name='conversation',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='sync.conversation', verbose_name='conversation'),
                ),
            ],
        ),
    ]
