from django.db import migrations

OWN_ADDRESSES = {
    "douyin": "https://open.douyin.com",
    "telegram": "https://api.telegram.org",
    "whatsapp": "https://graph.facebook.com",
}


def name_no_own_address(apps, schema_editor):
    """As `sync.services.accounts` writes it now. Of an account that is there twice both stay."""
    accounts = apps.get_model("sync", "Account").objects
    for platform, address in OWN_ADDRESSES.items():
        bare = accounts.filter(platform=platform, endpoint="").values("identifier")
        named = accounts.filter(platform=platform, endpoint=address)
        named.exclude(identifier__in=bare).update(endpoint="")


class Migration(migrations.Migration):

    dependencies = [
        ('sync', '0013_decisions'),
    ]

    operations = [
        migrations.RunPython(name_no_own_address, migrations.RunPython.noop),
    ]
