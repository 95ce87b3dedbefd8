#!/usr/bin/env python3
"""Counts the instructions and cache misses that a request costs the thread that carries it, and holds them to benches/instructions.json.

    benches/instructions.py [--entrada PATH] [--update]

The release binary runs under valgrind between a load and a backend on loopback; `side-by-side/callgrind.py` says how the counts
come about, and `side-by-side/counts.py` has the same of nginx and HAProxy. The kernel's part and that of other threads are not in
them. Another compiler moves the figures too: then, and when a change is worth its price, `--update` writes them anew.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "instructions.json"
sys.path.insert(0, str(HERE / "side-by-side"))

import callgrind
import material
import peers
import sinks

# The config, the client, the additional fields, and the words.
KINDS = {
    "plain": ("plain", "http1", {}, "passed on without a policy"),
    "token": ("token", "http1", {}, "address list, a token seen before, a claim as a field"),
    "fields": ("token", "http1", callgrind.EIGHT_MORE, "the same with eight more fields"),
    "http2": ("token", "http2", {}, "the same as `token` over HTTP/2"),
    "large": ("large", "http1", {}, "`token` among 5,000 routes, 100,000 networks and 100 policies of another route"),
}
# What the large config may add to a request: lookups in larger tables, and nothing that grows with them.
GROWTH = 0.03
# What the sinks of this machine, and all sinks, may add to a request on the thread that carries it, above none.
SINKS = {"local": (4_000, "standard output, a file, the system's syslog"), "remote": (6_000, "the same, a syslog server, OpenTelemetry, Log Analytics")}
# The growth of what a candidate of the same size adds to a request that it judges, which is the difference of two runs. The aim is 8,000
# instructions of the binary that is shipped.
CANDIDATE = 0.08
# The function by which the thread that carries requests is known.
CARRIES = "entrada::gateway::forward"


def with_candidate(command: list[str]) -> list[str]:
    """The command of a gateway whose config judges once more, as its own candidate."""
    return [*command, "--candidate", command[command.index("--config") + 1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entrada", default=str(HERE.parent / "target/release/entrada"), help="the gateway's release binary")
    parser.add_argument("--update", action="store_true", help="write the figures down as the new baseline")
    options = parser.parse_args()
    if not callgrind.installed("valgrind", "nginx", "h2load"):
        raise SystemExit("valgrind, nginx or h2load is missing (Debian: valgrind nginx-light nghttp2-client)")
    baseline, found = json.loads(BASELINE.read_text()), {}
    with tempfile.TemporaryDirectory(prefix="entrada-instructions-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port = callgrind.free_port()
        material.MANY = 1
        material.make(folder, f"http://127.0.0.1:{port}", 0, 1)
        token = (folder / "one.txt").read_text().strip()
        backend = subprocess.Popen(peers.backend(peers.Setup(folder, port, port, 1, "", "")), stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            callgrind.connect(port).close()
            for kind, (config, client, more, _) in KINDS.items():
                start = lambda own_port, own: peers.entrada(peers.Setup(own, own_port, port, 1, "", options.entrada), config)
                load = lambda own_port: callgrind.Load(own_port, token, more, client)
                found[kind] = callgrind.cost(start, load, folder / kind, CARRIES)
            start = lambda own_port, own: with_candidate(peers.entrada(peers.Setup(own, own_port, port, 1, "", options.entrada), "token"))
            load = lambda own_port: callgrind.Load(own_port, token)
            judged = callgrind.cost(start, load, folder / "candidate", CARRIES)[0] - found["token"][0]
            receivers, with_sinks = sinks.Receivers(folder), {}
            for kind in ("none", *SINKS):
                audit = getattr(receivers, kind)()
                start = lambda own_port, own: peers.entrada(peers.Setup(own, own_port, port, 1, "", options.entrada), "token", audit)
                with_sinks[kind] = callgrind.cost(start, load, folder / f"sinks-{kind}", CARRIES)[0]
        finally:
            os.killpg(backend.pid, signal.SIGTERM)

    worse = False
    for kind, (_, _, _, what) in KINDS.items():
        told = []
        for name, count in zip(callgrind.Counts.NAMES, found[kind]):
            before = baseline["counts"].get(kind, {}).get(name, count)
            moved = count / before - 1
            worse |= moved > baseline["margins"][name]
            told.append(f"{count:,} {name} ({moved:+.1%} from {before:,})")
        print(f"{kind} ({what}): {', '.join(told)}")
    growth = found["large"][0] / found["token"][0] - 1
    print(f"growth from the small config to the large one: {growth:+.1%}")
    before = baseline["candidate"]
    print(f"a candidate of the same size: {judged:,} instructions more for each request that it judges ({judged / before - 1:+.1%} from {before:,})")
    worse |= judged / before - 1 > CANDIDATE
    for kind, (most, what) in SINKS.items():
        more = with_sinks[kind] - with_sinks["none"]
        print(f"sinks ({what}): {more:,} instructions more than with none, of {most:,}")
        worse |= more > most
    if growth > GROWTH:
        raise SystemExit(f"That is more than {GROWTH:.0%}: something is looked through that should be looked up.")
    if options.update:
        counts = {kind: dict(zip(callgrind.Counts.NAMES, values)) for kind, values in found.items()}
        BASELINE.write_text(json.dumps(baseline | {"counts": counts, "candidate": judged}, indent=2) + "\n")
    elif worse:
        raise SystemExit("That is more than the margin or the bound. If it is worth it, say why in the commit, and --update.")


main()
