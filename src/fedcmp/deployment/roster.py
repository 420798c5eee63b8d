"""Which sites a server lets in, and who is there: HOME/sites against what the SuperLink knows, again and again."""

import time
from collections.abc import Callable

import httpx

from fedcmp.deployment.control import Control
from fedcmp.deployment.server_folder import ServerFolder, write_roster
from fedcmp.deployment.site_keys import RegisteredSite, registered_sites
from fedcmp.errors import UserError

_LOOK_SECONDS = 2.0  # between two looks at who is connected and which keys are registered


class Roster:
    """The registered sites of one SuperLink.

    Args:
        folder: HOME.
        say: called with each line for the user.
    """

    def __init__(self, folder: ServerFolder, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._roster: dict[int, RegisteredSite] = {}
        self._left: dict[str, int] = {}  # keys that Flower could not take back, which may come again
        self._online: set[int] = set()
        self._ever: set[int] = set()  # nodes that have been connected
        self._gone: set[int] = set()  # of these, those whose keys were taken back
        self._said: set[str] = set()
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._roster)

    def forget(self) -> None:
        """Begin with a SuperLink that knows no site."""
        self._roster, self._left = {}, {}
        self._online, self._ever, self._gone = set(), set(), set()

    def look_again(self, control: Control) -> None:
        """Take a look if the last one is a while ago; what goes wrong is said and tried again."""
        if time.monotonic() - self._looked <= _LOOK_SECONDS:
            return
        try:
            self.look(control)
        except UserError as error:  # a file among the keys that is none
            self._say_once(str(error))
        except httpx.HTTPError:  # that the SuperLink died is noticed elsewhere
            return

    def look(self, control: Control) -> None:
        """Register keys that are new, take back those that are gone, and say who has come and who has left."""
        self._looked = time.monotonic()
        wanted = {site.key.line: site for site in registered_sites(self._folder.sites)}
        changed = False
        for node, site in list(self._roster.items()):
            if site.key.line not in wanted or wanted[site.key.line].name != site.name:
                del self._roster[node]  # what it sends counts for nobody from here on
                if node not in self._ever:  # Flower 1.41 fails to take such a key back, and then takes it no more
                    self._left[site.key.line] = node
                self._say(f"{site.name}: key {site.key.fingerprint} is registered no more")
                changed = True
        known = {site.key.line for site in self._roster.values()}
        for line, site in wanted.items():
            if line in known:
                continue
            try:
                self._roster[self._left.pop(line, 0) or control.register(site.key.pem, site.name)] = site
                changed = True
            except httpx.HTTPStatusError:
                self._say_once(
                    f"{site.name}: key {site.key.fingerprint} was taken back before, and Flower takes it again only "
                    "after a restart of the server; restart it, or use a new key"
                )
        if changed:
            write_roster(self._folder, {node: site.name for node, site in self._roster.items()})
        online = control.online()
        self._ever |= online
        for node in self._ever - set(self._roster) - self._gone:
            if control.unregister(node):
                self._gone.add(node)
                self._left = {line: kept for line, kept in self._left.items() if kept != node}
        for node in sorted(online - self._online):
            if node in self._roster:
                self._say(f"{self._roster[node].name}: connected")
        for node in sorted(self._online - online):
            if node in self._roster:
                self._say(f"{self._roster[node].name}: connection lost")
        self._online = online

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)
