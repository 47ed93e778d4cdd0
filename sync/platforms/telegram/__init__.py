"""Telegram, by its Bot API (core.telegram.org/bots/api), polled or by webhook."""

from sync.platforms.telegram.adapter import Telegram

platform = Telegram()
