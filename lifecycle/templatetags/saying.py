"""`{{ text|said }}`: what is stored in English, in the reader's language."""

from __future__ import annotations

from django import template

from lifecycle.said import said

register = template.Library()
register.filter("said", said)
