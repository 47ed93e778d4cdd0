"""E-mail: IMAP (RFC 3501) for reading, SMTP (RFC 5321) for replies."""

from sync.platforms.email.adapter import Email

platform = Email()
