"""What admin pages of all apps are made of: live lists, badges, forms that save by services."""
