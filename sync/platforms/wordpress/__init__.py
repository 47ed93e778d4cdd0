"""Comments on a WordPress site, by its REST API (developer.wordpress.org/rest-api)."""

from sync.platforms.wordpress.adapter import WordPress

platform = WordPress()
