#!/usr/bin/env python3
"""Counts the instructions that a request costs the thread that carries it, and holds them to benches/instructions.json.

    benches/instructions.py [--entrada PATH] [--update]

The release binary runs under valgrind between a caller and a backend on loopback, once for few requests and once for many; the
difference is what the requests cost. Counts, not time: other work on the machine does not matter, and two runs differ by less than
a hundredth. The kernel's part and that of other threads are not in it. Another compiler moves the figures too: then, and when a
change is worth its price, `--update` writes them anew.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "instructions.json"
sys.path.insert(0, str(HERE / "side-by-side"))
FEW, MANY = 100, 1_100
KINDS = {
    "plain": "passed on without a policy",
    "token": "address list, a token seen before, a claim as a header",
    "large": "the same among 5,000 routes, 100,000 networks and 100 policies of another route",
}
# What the large config may add to a request: lookups in larger tables, and nothing that grows with them.
GROWTH = 0.03


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def connect(port: int) -> socket.socket:
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 30)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def ask(connection: socket.socket, token: str) -> bool:
    connection.sendall(f"GET /orders/42?x=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    received = b""
    while not received.endswith((b"x" * 1024, b"}")):
        part = connection.recv(65_536)
        assert part, f"the gateway closed the connection after {received!r}"
        received += part
    return received.startswith(b"HTTP/1.1 200 ")


def count(peers, setup, kind: str, requests: int) -> int:
    """The instructions of the thread that carries the requests, from its first to its last."""
    folder = setup.folder / f"{kind}-{requests}"
    folder.mkdir()
    command = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={folder}/out"]
    token = (setup.folder / "one.txt").read_text().strip()
    with open(folder / "log", "wb") as log:
        gateway = subprocess.Popen(command + peers.entrada(setup, kind), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        connection, deadline = connect(setup.port), time.monotonic() + 60
        # The keys are fetched once it has started.
        while not ask(connection, token):
            assert time.monotonic() < deadline, f"good requests are refused: {(folder / 'log').read_text()[-2000:]}"
            time.sleep(1)
        for _ in range(requests):
            assert ask(connection, token), "a good request was refused"
        connection.close()
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(60)
    finally:
        gateway.kill()
    carried = [text for text in (file.read_text() for file in folder.glob("out-*")) if "entrada::gateway::forward" in text]
    assert len(carried) == 1, f"{len(carried)} threads carried requests, not one"
    return int(re.search(r"^totals: (\d+)", carried[0], re.M).group(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entrada", default=str(HERE.parent / "target/release/entrada"), help="the gateway's release binary")
    parser.add_argument("--update", action="store_true", help="write the figures down as the new baseline")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("valgrind is not installed: skipped")
        return
    # Where servers are on Debian, also for those who are not root.
    os.environ["PATH"] += ":/usr/sbin"
    import material
    import peers

    baseline = json.loads(BASELINE.read_text())
    found = {}
    with tempfile.TemporaryDirectory(prefix="entrada-instructions-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port = free_port()
        material.MANY = 1
        material.make(folder, f"http://127.0.0.1:{port}", 0, 1)
        setup = lambda: peers.Setup(folder, free_port(), port, 1, "", options.entrada)
        backend = subprocess.Popen(peers.backend(setup()), stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            connect(port).close()
            for kind in KINDS:
                few, many = count(peers, setup(), kind, FEW), count(peers, setup(), kind, MANY)
                found[kind] = round((many - few) / (MANY - FEW))
        finally:
            os.killpg(backend.pid, signal.SIGTERM)

    worse = False
    for kind, what in KINDS.items():
        before = baseline["instructions"][kind]
        moved = found[kind] / before - 1
        worse |= moved > baseline["margin"]
        print(f"{kind} ({what}): {found[kind]:,} instructions a request, {moved:+.1%} from {before:,}")
    growth = found["large"] / found["token"] - 1
    print(f"growth from the small config to the large one: {growth:+.1%}")
    if growth > GROWTH:
        raise SystemExit(f"That is more than {GROWTH:.0%}: something is looked through that should be looked up.")
    if options.update:
        BASELINE.write_text(json.dumps(baseline | {"instructions": found}, indent=2) + "\n")
    elif worse:
        raise SystemExit(f"That is more than the margin of {baseline['margin']:.0%}. If it is worth it, say why in the commit, and --update.")


main()
