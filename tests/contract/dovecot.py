"""Dovecot, from Debian's packages, for tests: IMAP for reading, LMTP for delivery."""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
import pwd
import shutil
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from crm.demo.synapse import free_port
from tests.contract.packages import program
from tests.contract.suite.clock import skewed

PACKAGES = ("dovecot-imapd", "dovecot-lmtpd")
START_TIMEOUT_S = 20.0
POLL_S = 0.02

CONFIG = """
base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/dovecot.log
import_environment = TZ LD_PRELOAD FAKETIME FAKETIME_DONT_FAKE_MONOTONIC DONT_FAKE_MONOTONIC
protocols = imap lmtp
listen = 127.0.0.1
ssl = {ssl}
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_cache_size = 0
default_login_user = {user}
default_internal_user = {user}
default_internal_group = {group}
first_valid_uid = 1
mail_location = maildir:{home}/mail/%u
mail_max_userip_connections = 200
lmtp_save_to_detail_mailbox = no
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {home}/users/%u
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox "Sent Items" {{
    special_use = \\Sent
    auto = create
  }}
}}
service imap-login {{
  chroot =
  service_count = 0
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap_port}
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {imaps_port}
    ssl = yes
  }}
}}
service imap {{
  service_count = 0
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp_port}
  }}
}}
"""


class Dovecot:
    """A running server; users may be added and changed while it runs."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._program = program("dovecot", *PACKAGES)
        # Processes of another user reach into it, which pytest's own directories do not allow.
        self.home = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self.home.chmod(0o755)
        self.imap_port, self.imaps_port, self.lmtp_port = (free_port() for _ in range(3))
        self._certificate, self._key = certificate, key
        self._clock_offset_s = 0.0
        self._master: subprocess.Popen[bytes] | None = None

    def start(self, clock_offset_s: float = 0) -> None:
        """Raises `RuntimeError` with the log when it does not come up."""
        self._configure()
        self._clock_offset_s = clock_offset_s
        self._master = subprocess.Popen(
            [self._program, "-F", "-c", str(self.home / "dovecot.conf")],
            env={"PATH": os.environ["PATH"], **skewed(clock_offset_s)},
            stdout=subprocess.DEVNULL,
            stderr=(self.home / "stderr").open("wb"),
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._master.poll() is None:
            try:
                with smtplib.LMTP("127.0.0.1", self.lmtp_port, timeout=5):
                    return
            except (OSError, smtplib.SMTPException):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._master.wait(POLL_S)
        raise RuntimeError(f"Dovecot does not come up:\n{self._log()}")

    def kill(self) -> None:
        """All of its processes, at once."""
        if self._master is None:
            return
        main = psutil.Process(self._master.pid)
        main.suspend()  # it starts no further ones meanwhile
        tree = [*main.children(recursive=True), main]
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._master.wait(20)
        psutil.wait_procs(tree, timeout=20)
        self._master = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def set_password(self, user: str, password: str) -> None:
        """A file for each user: Dovecot looks for changes of a known file once a second only."""
        file = self.home / "users" / user
        is_new = not file.exists()
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{user}:{{PLAIN}}{password}\n")
        fresh.chmod(0o644)
        fresh.rename(file)
        while not is_new and not self._takes(user, password):
            pass

    def _takes(self, user: str, password: str) -> bool:
        return "auth succeeded" in self.doveadm("auth", "test", user, password)

    def put(self, user: str, mails: Iterable[bytes]) -> None:
        """Many mails at once, as a delivery agent puts them into a Maildir, by the same clock."""
        self.doveadm("mailbox", "status", "-u", user, "messages", "INBOX")  # makes the Maildir
        folder = self.home / "mail" / user
        owner = folder.stat()
        now = time.time() + self._clock_offset_s
        for number, mail in enumerate(mails):
            name = f"{time.time_ns()}.{os.getpid()}_{number}.test"
            (folder / "tmp" / name).write_bytes(mail.replace(b"\r\n", b"\n"))
            os.chown(folder / "tmp" / name, owner.st_uid, owner.st_gid)
            os.utime(folder / "tmp" / name, (now, now))
            (folder / "tmp" / name).rename(folder / "new" / name)

    def disconnect(self, user: str) -> None:
        """End the user's sessions."""
        self.doveadm("kick", user)

    def doveadm(self, *arguments: str) -> str:
        command = [program("doveadm", *PACKAGES), "-c", str(self.home / "dovecot.conf"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout + done.stderr

    def _configure(self) -> None:
        user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        known = pwd.getpwnam(user)
        for folder in ("mail", "run"):
            (self.home / folder).mkdir(exist_ok=True)
            os.chown(self.home / folder, known.pw_uid, known.pw_gid)
        (self.home / "run").chmod(0o755)
        (self.home / "users").mkdir(exist_ok=True)
        text = CONFIG.format(
            home=self.home,
            user=user,
            group=grp.getgrgid(known.pw_gid).gr_name,
            uid=known.pw_uid,
            gid=known.pw_gid,
            ssl="yes",
            certificate=self._certificate,
            key=self._key,
            imap_port=self.imap_port,
            imaps_port=self.imaps_port,
            lmtp_port=self.lmtp_port,
        )
        (self.home / "dovecot.conf").write_text(text)

    def _log(self) -> str:
        logs = [self.home / "stderr", self.home / "dovecot.log"]
        return "\n".join(one.read_text(errors="replace") for one in logs if one.exists())
