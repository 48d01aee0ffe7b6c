"""Locks on outputs: hidden files that name the process which writes an output.

A lock is a `flock` on such a file. The operating system frees it when the process ends, however it ends. A
lock file that no process holds was therefore left behind by a process that was killed.
"""

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from ehr_bert.errors import UserError
from ehr_bert.logs import warn

logger = logging.getLogger(__name__)

LOCK_SUFFIX = ".ehr-bert-lock"
"""End of the name of each lock file. The name starts with a dot."""

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of `flock` on a disk without locks, such as some network disks."""

_PATIENCE_SECONDS = 1.0
"""How long to wait for a lock. A process that removes what a killed one left holds its lock for a moment."""

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Holder:
    """The process that holds or held a lock.

    Attributes:
        pid: Process id.
        host: Name of its machine.
        boot: Id of the machine's last start, which containers on it share; empty if unknown.
        since: When it took the lock, in local time.
    """

    pid: int
    host: str
    boot: str
    since: str

    @classmethod
    def this_process(cls) -> "Holder":
        """Return this process, from now."""
        now = datetime.now().isoformat(" ", "seconds")
        return cls(os.getpid(), socket.gethostname(), _boot(), now)

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the process ran on this machine."""
        return self.host == socket.gethostname() or (self.boot != "" and self.boot == _boot())

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def locked(lock_file: Path, output: Path) -> Iterator[Holder | None]:
    """Hold a lock while the block runs, and remove its file afterwards.

    On a disk without locks, the block runs after a warning (key `no-file-locks`).

    Args:
        lock_file: The lock file. Its folder must exist.
        output: What the lock protects, for messages.

    Yields:
        The process that left the lock file behind when it was killed, if there was one.

    Raises:
        UserError: Another process holds the lock (key `output-in-use`).
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (opened := _opened(lock_file, os.O_CREAT)) is None:
        if time.monotonic() > deadline:
            raise UserError(
                "output-in-use",
                f"{output} is being written by {_holder(lock_file) or 'another process'}. Wait until it "
                "ends, or choose another output.",
            )
        time.sleep(_POLL_SECONDS)
    descriptor, is_supported = opened
    try:
        if is_supported:
            earlier = _holder(lock_file)
        else:
            earlier = None  # It may be alive.
            warn(
                logger,
                "no-file-locks",
                f"the disk of {output} does not support locks. Do not write it with two commands at once.",
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(Holder.this_process())).encode(), 0)
        yield earlier
    finally:
        lock_file.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def lock_of_dead_process(lock_file: Path) -> Iterator[bool]:
    """Hold a lock that a killed process of this machine and user left behind, and then remove its file.

    Yields:
        Whether there was one. If not, the lock file is unchanged.
    """
    try:
        is_own = lock_file.is_file() and lock_file.stat().st_uid == os.geteuid()
        opened = _opened(lock_file) if is_own else None
    except OSError:  # removed meanwhile, or not readable
        opened = None
    if opened is None:
        yield False
        return
    descriptor, is_supported = opened
    try:
        holder = _holder(lock_file)
        is_dead = is_supported and holder is not None and holder.is_on_this_machine
        yield is_dead
        if is_dead:
            lock_file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _opened(lock_file: Path, flags: int = 0) -> tuple[int, bool] | None:
    """Open and lock a lock file.

    Returns:
        Its descriptor, and whether the disk supports locks. None if another process holds the lock.
    """
    while True:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_NOFOLLOW | flags, 0o666)
        try:
            is_supported = _flock(descriptor)
            if os.path.samestat(os.fstat(descriptor), os.stat(lock_file)):
                return descriptor, is_supported
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:  # Its holder has just removed it.
            pass
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    """Lock a descriptor, or return False on a disk without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


def _holder(lock_file: Path) -> Holder | None:
    """Read a lock file. None if it is empty or has another content."""
    try:
        return Holder(**json.loads(lock_file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
