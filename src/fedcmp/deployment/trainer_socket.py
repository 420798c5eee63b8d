"""The Unix socket by which a site's ClientApps reach its trainer: only the site's own user can open it.

One frame in, one frame out (wire/frames.py), any number of connections at a time.
"""

import os
import socket
import socketserver
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from fedcmp.errors import UserError
from fedcmp.wire.frames import read_frame, write_frame
from fedcmp.wire.naming import Tensors
from fedcmp.wire.site_limits import MOST_BODY, MOST_HEADER, MOST_NAMES
from fedcmp.wire.site_messages import Frame, Header

_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid
_LONGEST = 107  # bytes of a Unix socket's path

Answering = Callable[[Header, Tensors], Frame]


class TrainerSocket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers frames on a socket; use as a context manager, then `serve_forever`.

    Args:
        path: of the socket; one that a killed trainer left behind is taken over.
        answering: answers one frame.
        malformed: answers what is none.

    Raises:
        UserError: another trainer answers there, or the path cannot be a socket.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, path: Path, answering: Answering, malformed: Callable[[ValueError], Frame]) -> None:
        self.answering, self.malformed = answering, malformed
        _check(path)
        before = os.umask(0o077)  # no moment at which others could open it
        try:
            super().__init__(str(path), _Handler)
        except OSError as error:
            raise UserError(f"{path}: cannot be a socket ({error.strerror}); name a folder of your own") from error
        finally:
            os.umask(before)


class _Handler(socketserver.StreamRequestHandler):
    server: TrainerSocket

    def handle(self) -> None:
        """Answer one frame; a caller that has gone is no fault, the work goes on."""
        if not _is_own(self.connection):
            return
        with suppress(BrokenPipeError, ConnectionResetError, EOFError):
            try:
                frame = read_frame(
                    cast(IO[bytes], self.rfile), most_header=MOST_HEADER, most_body=MOST_BODY, most_names=MOST_NAMES
                )
            except ValueError as error:
                answer = self.server.malformed(error)
            else:
                answer = self.server.answering(*frame)
            write_frame(cast(IO[bytes], self.wfile), *answer)


def _is_own(connection: socket.socket) -> bool:
    """Return whether a process of this user is at the other end; the folder's rights say so too."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(found)[1] == os.getuid())


def _check(path: Path) -> None:
    if len(os.fsencode(path)) > _LONGEST:
        raise UserError(f"{path}: a socket's path has {_LONGEST} bytes at most; name a shorter one")
    try:
        folder = path.parent.stat()
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be looked into ({error.strerror}); name one of your own") from error
    if folder.st_uid != os.getuid() or stat.S_IMODE(folder.st_mode) & 0o077:
        raise UserError(f"{path.parent}: others can look into it; a trainer's socket needs a folder of mode 0700")
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()  # of a trainer that was killed
            return
    raise UserError(f"{path}: another trainer answers there; one site is joined once")
