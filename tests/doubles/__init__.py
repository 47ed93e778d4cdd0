"""Servers that behave as platforms' documents say, for platforms that can't be run here."""
