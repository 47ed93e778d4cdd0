"""The raw SQL of sync by subject; beside each statement stands the index that it relies on."""

from sync.sql import books, claims, comments, counts, deliveries, feed, marks, messages

__all__ = ["books", "claims", "comments", "counts", "deliveries", "feed", "marks", "messages"]
