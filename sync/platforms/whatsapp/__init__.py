"""WhatsApp, by Meta's Cloud API: what comes is pushed, what goes is sent."""

from sync.platforms.whatsapp.adapter import WhatsApp

platform = WhatsApp()
