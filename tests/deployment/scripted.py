"""Sites that answer as a test says, a link between them and a server, and a clock that a test moves on."""

from collections import deque

from fedcmp.deployment.register import Register
from fedcmp.deployment.sites import Sites
from fedcmp.federation.flower.link import Lost
from fedcmp.wire.messages import Reply
from fedcmp.wire.site_messages import (
    Admission,
    Collecting,
    Holding,
    Invitation,
    Judged,
    Judging,
    NotKnown,
    Placement,
    Training,
    Working,
    read_request,
)

NAMES = ["north", "south", "west"]
HASH = "0f" * 32
SILENCE = object()  # no answer, and no word of what became of the message


class Clock:
    """Seconds that pass only where somebody sleeps."""

    def __init__(self):
        self.now, self.alarms = 1000.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for alarm in [alarm for alarm in self.alarms if alarm[0] <= self.now]:
            self.alarms.remove(alarm)
            alarm[1]()
        assert self.now < 1e6, "nobody ends this"

    def at(self, seconds, work):
        """Let something happen so many seconds from now."""
        self.alarms.append((self.now + seconds, work))


class After:
    """An answer that takes so many seconds."""

    def __init__(self, seconds, answer):
        self.seconds, self.answer = seconds, answer


class ScriptedSite:
    """A well-behaved site, but for what `next` says: answers to the next messages, or what makes them of a request."""

    def __init__(self, client, usable=50):
        self.client, self.usable = client, usable
        self.known, self.placed, self.requests = False, None, []
        self.next = deque()

    def __call__(self, frame):
        request = read_request(*frame)
        self.requests.append(request)
        if self.next:
            answer = self.next.popleft()
            return answer(request) if callable(answer) else answer
        return self.answer(request)

    def answer(self, request):
        if isinstance(request, Invitation):
            self.known = True
            own = {"vision_width": 4, "text_width": 4, "vision": HASH, "language": HASH}
            return Admission(release=request.release, usable=self.usable, **own)
        if not self.known:
            return NotKnown(what="run")
        if isinstance(request, Placement):
            self.placed = request.client, request.first_position
            return Holding(train=self.usable - 10, groups={}, bad_pairs={}, missing_pairs=0, pairs=[])
        if isinstance(request, Training):
            return self.reply(request)
        if isinstance(request, Judging):
            return Judged(losses={self.name: 2.0 * self.usable}, tokens={self.name: self.usable}, captions=5, seconds=1)
        assert isinstance(request, Collecting)
        return NotKnown(what="job")

    @property
    def name(self):
        return NAMES[self.client]

    def reply(self, request, **changes):
        asked = request.assignment
        own = {"client": self.client, "num_examples": 8, "alignment_error": 0.5, "measure_only": asked.measure_only}
        return Reply(**{"round": asked.round} | own | changes)

    def kinds(self):
        return [request.message for request in self.requests]

    def forget(self):
        self.known, self.placed = False, None


class ScriptedLink:
    """A Link to scripted sites: answers come when their seconds are over."""

    def __init__(self, clock, sites):
        self.clock, self.sites = clock, sites
        self.down, self.refuses = set(), set()
        self.pushed = []  # (when, site, seconds to live)
        self._answers, self._pulled = {}, []

    def online(self):
        return frozenset(self.sites) - self.down

    def push(self, site, frame, *, seconds):
        if site in self.refuses:
            raise ConnectionError("Flower did not take the message")
        assert site not in self.down
        number = str(len(self.pushed))
        self.pushed.append((self.clock(), site, seconds))
        answer = self.sites[site](frame)
        delay, answer = (answer.seconds, answer.answer) if isinstance(answer, After) else (0.0, answer)
        if answer is not SILENCE:
            self._answers[number] = (self.clock() + delay, answer)
        return number

    def pull(self, sent):
        for number in list(sent):
            assert number not in self._pulled, "asked for again after it was there"
            when, answer = self._answers.get(number, (float("inf"), None))
            if when <= self.clock():
                self._pulled.append(number)
                frame = answer if isinstance(answer, Lost | tuple) else answer.to_tensors()
                yield number, frame


class Federation:
    """A server's talks with three scripted sites."""

    def __init__(self, folder, *, poll_seconds=60.0, pause=0.5):
        self.clock, self.notes, self.steps, self.follow = Clock(), [], [], None
        self.sites = {name: ScriptedSite(client, 60 - 10 * client) for client, name in enumerate(NAMES)}
        self.link = ScriptedLink(self.clock, self.sites)
        self.register = Register(folder / "sites.json", NAMES)
        self.register.begin()
        self.talks = self.started(poll_seconds, pause)

    def started(self, poll_seconds=60.0, pause=0.5):
        """The server's side, as a process that has just begun makes it."""
        return Sites(
            self.link,
            self.register,
            "[run]\n",
            poll_seconds=poll_seconds,
            note=self._note,
            progress=lambda client, steps, of: self.steps.append((NAMES[client], steps, of)),
            clock=self.clock,
            sleep=self.clock.sleep,
            pause=pause,
        )

    def _note(self, client, event, detail):
        self.notes.append((NAMES[client], event, detail))
        if self.follow is not None:
            self.follow(client, event, detail)

    def events(self, name, *kinds):
        return [detail for site, event, detail in self.notes if site == name and event in kinds]


def working(steps=1, of=4):
    return Working(job=HASH, steps=steps, of=of)
