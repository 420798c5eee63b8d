"""What a site says of work that it does not do: to the server in one line, and to its own people.

A request beyond what SITE.toml allows is refused word for word, to both sides. What goes wrong in the site's own work
may name its files, its pairs and its folders: those lines stay at the site, and the server is told to ask there.
"""

import traceback
from collections.abc import Callable

from fedcmp.errors import UserError, shortage
from fedcmp.terminal import shortened, shown
from fedcmp.version import __version__
from fedcmp.wire.naming import MessageError
from fedcmp.wire.site_messages import Refusal

Say = Callable[[str], None]
_LONGEST = 1000  # characters of a line about a malformed message


class Declined(UserError):  # noqa: N818 - says what happened
    """A request that the site does not carry out, however often it is asked: both sides see the line as it is."""


def check_release(release: str, whose: str) -> None:
    """Refuse to work for a server of another version.

    Args:
        release: the server's version of fedcmp.
        whose: who refuses, "this site" for example.

    Raises:
        Declined: names both versions.
    """
    if release != __version__:
        raise Declined(f"the server runs fedcmp {release}, {whose} {__version__}: install the same release")


def refusal(error: Exception, say: Say) -> Refusal:
    """Return what the server is told of an error, and tell the site's people.

    Args:
        error: raised by the site's work, or by the check of a request.
        say: called with a line for the site's people.
    """
    if isinstance(error, MessageError):
        reason = f"malformed request: {shortened(shown(str(error)), _LONGEST)}"
        say(f"refused: {reason}")
        return Refusal(reason=reason, accepted=False)
    if isinstance(error, Declined):
        say(f"refused: {error}")
        return Refusal(reason=str(error), accepted=False)
    if isinstance(error, UserError):
        say(f"could not do what is asked: {error}")
        return Refusal(reason="the site could not do it; its own log says why", accepted=True)
    short = shortage(error)
    if short is not None:
        say(f"could not do what is asked: {short}")
        return Refusal(reason="the site is short of memory, disk or open files; its own log says more", accepted=True)
    traceback.print_exception(error)
    say(f"failed at what is asked: {type(error).__name__}, see the lines above")
    return Refusal(reason=f"the site's trainer failed ({type(error).__name__}); its own log says more", accepted=True)
