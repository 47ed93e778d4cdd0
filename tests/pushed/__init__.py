"""Webhook requests as platforms' documents show them, signed like theirs."""
