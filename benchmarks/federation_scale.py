"""What a deployment's server needs as its sites become many: memory, time a round, bytes, against the limit.

    python benchmarks/federation_scale.py [--out results/federation_scale.md]

The server is the real one, run_server with its register, talks, rule, kept replies and checkpoints; its sites are fake
ones in another process (fake_sites.py), which answer at once, over one TCP connection of the loopback, one frame at a
time as over Flower. Every run is a process of its own, whose peak memory is the kernel's VmHWM. The last round is
timed, the best of the repetitions counts. The limit is what the same bytes take on that link and on that disk, measured
by the same process right after its rounds. An edge and the server above it are timed without a link.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SMALL, LARGE = (512, 768), (1024, 4096)  # vision and text widths: projectors of 1.0M and 21.0M parameters
ROUNDS = 2
QUIET = 1.0  # load below which something may be timed
ECHO = 2**28  # bytes by which link and disk are measured


@dataclass
class Measured:
    """One run of a server. Seconds are of its last round, bytes of one round; memory is the whole process's peak."""

    rule: str
    clients: int
    parameters: int
    memory: int  # bytes
    before: int  # the same, before the first round: libraries, register, first tensors
    admitting: float
    seconds: float
    work: float  # seconds of a CPU core that the server took of them
    link_bytes: int
    kept_bytes: int  # of the replies on disk
    disk_bytes: int  # of these and the checkpoint
    link_rate: float  # bytes a second, one direction after the other
    disk_rate: float
    records: int  # bytes of metrics.jsonl for one round

    @property
    def limit(self) -> float:
        """Seconds that the round's bytes take on the link and on the disk, and nothing else."""
        return self.link_bytes / self.link_rate + self.disk_bytes / self.disk_rate


def measure_here(rule: str, clients: int, vision: int, text: int, port: int, place: Path) -> Measured:
    """Run a server in this process."""
    import torch
    from fake_sites import SocketLink

    from fedcmp.config import parse_recipe
    from fedcmp.deployment.server_run import run_server
    from fedcmp.federation.kept_replies import KeptReplies
    from fedcmp.federation.rounds import Events

    names = [f"site-{number:05d}" for number in range(clients)]
    recipe = parse_recipe(
        {
            "model": {"vision": "sites/own", "language": "sites/own"},  # widths are what the fake sites say
            "run": {"name": "run", "folder": str(place), "methods": [rule]},
            "federation": {"rounds": ROUNDS, "min_clients": clients},
            "training": {"learning_rate": 1e-3},
            "deployment": {"sites": names, "judge": "none"},
        },
        "benchmark",
    )
    link = SocketLink(port, names)
    ends, carried, parked = [], [], [0]
    keep = KeptReplies.keep

    def counted(self, reply, arrived):
        keep(self, reply, arrived)
        parked[0] += reply.num_bytes

    KeptReplies.keep = counted

    class Timed(Events):
        def round_done(self, *_):
            ends.append((time.perf_counter(), time.process_time()))
            carried.append((link.up + link.down, parked[0], (place / "run" / "metrics.jsonl").stat().st_size))

    begun, admitted, before = time.perf_counter(), [], []

    def say(line):
        if "take part" in line:
            admitted.append(time.perf_counter() - begun)
            before.append(peak())

    run_server(recipe, link, resume=False, say=say, events=Timed(), pause=0.001)
    memory = peak()
    saved = sum(file.stat().st_size for file in (place / "run" / "checkpoints" / f"round-{ROUNDS:04d}").iterdir())
    (bytes_before, parked_before, lines_before), (bytes_after, parked_after, lines_after) = carried[-2:]
    torch.manual_seed(0)
    some = torch.randint(0, 256, (ECHO,), dtype=torch.uint8).numpy().tobytes()
    return Measured(
        rule=rule,
        clients=clients,
        parameters=(vision + 1) * text + (text + 1) * text,
        memory=memory,
        before=before[0],
        admitting=admitted[0],
        seconds=ends[-1][0] - ends[-2][0],
        work=ends[-1][1] - ends[-2][1],
        link_bytes=bytes_after - bytes_before,
        kept_bytes=parked_after - parked_before,
        disk_bytes=parked_after - parked_before + saved,
        link_rate=2 * ECHO / best(lambda: link.echo(some)),
        disk_rate=ECHO / best(lambda: write(place / "some", some)),
        records=lines_after - lines_before,
    )


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def best(work, times: int = 3) -> float:
    """Seconds of the fastest call."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return min(found)


def write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def measure(rule: str, clients: int, widths: tuple[int, int], repeats: int, patience: float) -> Measured:
    """Run servers in processes of their own; the fastest one's figures, and the largest memory."""
    found = []
    for _ in range(repeats):
        wait_for_quiet(patience)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        place = [str(width) for width in widths]
        sites = subprocess.Popen(
            [sys.executable, str(HERE / "fake_sites.py"), str(port)],
            stdout=subprocess.PIPE,
            env=environment | {"FAKE_WIDTHS": " ".join(place)},
        )
        try:
            assert sites.stdout is not None
            assert sites.stdout.readline() == b"ready\n"
            with tempfile.TemporaryDirectory() as folder:
                given = ["--here", rule, str(clients), *place, str(port), folder]
                command = [sys.executable, str(HERE / "federation_scale.py"), *given]
                done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
            found.append(Measured(**json.loads(done.stdout.splitlines()[-1])))
        finally:
            sites.kill()
            sites.wait()
        print(found[-1], file=sys.stderr, flush=True)
    fastest = min(found, key=lambda measured: measured.seconds)
    fastest.work = min(measured.work for measured in found)
    fastest.memory = max(measured.memory for measured in found)
    return fastest


def wait_for_quiet(most: float) -> None:
    """Wait until the machine has little else to do."""
    until = time.monotonic() + most
    while os.getloadavg()[0] > QUIET and time.monotonic() < until:
        time.sleep(5)


@dataclass
class Summed:
    """An edge, and a server above edges. Seconds of a core: per site at the edge, per edge at the server."""

    rule: str
    parameters: int
    clients: int  # of the edge
    memory: int  # bytes: the edge's process, peak; it holds what stands in for its sites too
    edge_seconds: float
    server_seconds: float
    sum_bytes: int
    delegation_bytes: int


def measure_edge_here(rule: str, clients: int, vision: int, text: int, place: Path) -> Summed:
    """Let one edge sum, and a server take the sum, in this process."""
    import torch
    from fake_sites import FakeSite

    from fedcmp.config import parse_recipe
    from fedcmp.federation.edge import EdgeSide, delegations
    from fedcmp.federation.server import ServerSide
    from fedcmp.model.projector import Projector
    from fedcmp.wire.messages import Reply

    torch.set_num_threads(1)
    content = {"run": {"methods": [rule]}, "data": {"num_pairs": 100}, "training": {"learning_rate": 1e-3}}
    recipe = parse_recipe(content, "benchmark")
    names = [f"site-{number}" for number in range(clients)]
    start = {name: tensor.detach().clone() for name, tensor in Projector(vision, text).state_dict().items()}
    side = ServerSide(rule, recipe.chosen(rule), recipe, names, start, place / "server", 1e-3)
    site, seconds = FakeSite(vision, text), {}
    for number, measure_only in ([(1, True)] if side.needs_opening else []) + [(1, False)]:
        assignments = side.open(number, list(range(clients)), measure_only=measure_only)
        given = delegations(assignments, {"edge": range(clients)}, side.aggregator.public())["edge"]
        begun = time.process_time()
        edge = EdgeSide(recipe.chosen(rule).create_aggregator(), given, place / "edge")
        for client, assignment in edge.assignments.items():
            edge.receive(Reply.from_tensors(*site.reply(assignment, client)))
        found = edge.close()
        seconds["edge"] = (time.process_time() - begun) / clients
        begun = time.process_time()
        side.receive(found)
        seconds["server"] = time.process_time() - begun
        side.close()
        side.settled()
        edge.settled()
    return Summed(
        rule=rule,
        parameters=(vision + 1) * text + (text + 1) * text,
        clients=clients,
        memory=peak(),
        edge_seconds=seconds["edge"],
        server_seconds=seconds["server"],
        sum_bytes=found.num_bytes,
        delegation_bytes=given.num_bytes,
    )


def measure_edge(rule: str, clients: int, widths: tuple[int, int], repeats: int, patience: float) -> Summed:
    """As `measure`, of an edge; the best of each figure."""
    found = []
    for _ in range(repeats):
        wait_for_quiet(patience)
        with tempfile.TemporaryDirectory() as folder:
            given = ["--edge", rule, str(clients), *(str(width) for width in widths), folder]
            command = [sys.executable, str(HERE / "federation_scale.py"), *given]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
        found.append(Summed(**json.loads(done.stdout.splitlines()[-1])))
        print(found[-1], file=sys.stderr, flush=True)
    best_one = min(found, key=lambda summed: summed.edge_seconds)
    best_one.server_seconds = min(summed.server_seconds for summed in found)
    best_one.memory = max(summed.memory for summed in found)
    return best_one


def table(rows: list[Measured]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        "| rule | parameters | sites | peak memory | before round 1 | bytes of a round | time of a round | "
        "server's work | per site | limit | time over limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.rule} | {row.parameters / 1e6:.1f}M | {row.clients} | {row.memory / 2**20:,.0f} MiB | "
            f"{row.before / 2**20:,.0f} MiB | {row.link_bytes / 1e6:,.0f} MB | {row.seconds:.2f} s | "
            f"{row.work:.2f} s | {row.work / row.clients * 1e3:,.0f} ms | {row.limit:.2f} s | "
            f"{row.seconds / row.limit:.1f} |"
        )
    return lines


def edge_table(rows: list[Summed]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        "| rule | parameters | to an edge | its sum | edge, per site | server, per edge | edge's peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.rule} | {row.parameters / 1e6:.1f}M | {row.delegation_bytes / 1e6:,.0f} MB | "
            f"{row.sum_bytes / 1e6:,.0f} MB | {row.edge_seconds * 1e3:,.0f} ms | {row.server_seconds * 1e3:,.0f} ms | "
            f"{row.memory / 2**20:,.0f} MiB |"
        )
    return lines


def paper(rows: list[Measured], summed: list[Summed], sites: int, edges: int, rate: float) -> list[str]:
    """What many sites would take, flat and beneath edges, from the rates measured: docs/scale.md has the formula."""
    lines = [
        f"| rule | parameters | | bytes of a round | link of {rate * 8 / 1e9:g} Gbit/s | work | disk |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        edge = next(one for one in summed if (one.rule, one.parameters) == (row.rule, row.parameters))
        one, kept = row.link_bytes / row.clients, row.kept_bytes / row.clients
        work = row.work / row.clients
        above, beneath = edge.sum_bytes + edge.delegation_bytes, sites // edges
        for name, count, each, part, disk in (
            ("one server", sites, one, work, kept),
            (f"each of {edges} edges", beneath, one, edge.edge_seconds, kept),
            ("the server above them", edges, above, edge.server_seconds, edge.sum_bytes),
        ):
            lines.append(
                f"| {row.rule} | {row.parameters / 1e6:.1f}M | {name} | {count * each / 1e9:,.1f} GB | "
                f"{duration(count * each / rate)} | {duration(count * part)} | {count * disk / 1e9:,.1f} GB |"
            )
    return lines


def report(rows: list[Measured], summed: list[Summed], repeats: int) -> list[str]:
    """The result file's lines."""
    widest = {(row.rule, row.parameters): row for row in sorted(rows, key=lambda row: row.clients)}
    links, disks = [row.link_rate for row in rows], [row.disk_rate for row in rows]
    best_of = "one run each" if repeats == 1 else f"best of {repeats} runs each"
    return [
        "# A server and its sites",
        "",
        "## Memory and time",
        "",
        *table(rows),
        "",
        f"{best_of[0].upper()}{best_of[1:]}, one thread; connection {min(links) / 1e6:,.0f} to {max(links) / 1e6:,.0f} "
        f"MB/s, disk {min(disks) / 1e6:,.0f} to {max(disks) / 1e6:,.0f} MB/s. {load()}",
        "",
        "## Edges",
        "",
        *edge_table(summed),
        "",
        "## Ten thousand sites, on paper",
        "",
        *paper(list(widest.values()), summed, 10_000, 100, 125e6),
    ]


def load() -> str:
    """How busy the machine is, for whoever reads seconds."""
    now, cores = os.getloadavg()[0], os.cpu_count() or 1
    if now <= 1.5:
        return f"The machine had nothing else to do (load {now:.1f})."
    return (
        f"The machine had other work (load {now:.0f} on {cores} cores): times, connection and disk are those of a busy "
        "machine; memory and bytes do not depend on it, CPU seconds less."
    )


def duration(seconds: float) -> str:
    """For people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def main() -> None:
    if sys.argv[1:2] == ["--here"]:
        rule, clients, vision, text, port, folder = sys.argv[2:]
        found = measure_here(rule, int(clients), int(vision), int(text), int(port), Path(folder))
        print(json.dumps(asdict(found)))
        return
    if sys.argv[1:2] == ["--edge"]:
        rule, clients, vision, text, folder = sys.argv[2:]
        summed = measure_edge_here(rule, int(clients), int(vision), int(text), Path(folder))
        print(json.dumps(asdict(summed)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="*", default=[5, 50, 500])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--large", type=int, default=5, help="sites with LLaVA-1.5-7B's projector; 0: leave it out")
    parser.add_argument("--patience", type=float, default=900, help="seconds to wait for a load below 1 before a run")
    parser.add_argument("--out", type=Path, help="also write what is printed there")
    given = parser.parse_args()
    rules = ("fedavg", "shared-basis")
    small = [
        measure(rule, clients, SMALL, given.repeats, given.patience) for rule in rules for clients in given.clients
    ]
    large = [measure(rule, given.large, LARGE, given.repeats, given.patience) for rule in rules] if given.large else []
    sizes = [SMALL, LARGE] if given.large else [SMALL]
    summed = [measure_edge(rule, 5, widths, given.repeats, given.patience) for widths in sizes for rule in rules]
    lines = report(small + large, summed, given.repeats)
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
