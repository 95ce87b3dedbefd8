#!/usr/bin/env python3
"""Counts what a request costs nginx, HAProxy and entrada: instructions and first-level cache misses, of all threads.

    benches/side-by-side/counts.py [--entrada PATH] [--rows REGEX] [--keep FOLDER]

nginx, HAProxy, valgrind and h2load (Debian: nginx-light haproxy valgrind nghttp2-client) and the Python package `cryptography` must
be there. Two minutes; nothing else on the machine changes the counts. The peers write no log, entrada its audit record.
`--keep` leaves valgrind's files in a new folder, for `callgrind_annotate`.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import callgrind
import material
import peers

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = "address list, token seen before, a claim as a field"
# The row, the peer and its kind, the client, and the additional fields.
ROWS = [
    ("nginx, plain", "nginx", "plain", "http1", {}),
    ("HAProxy, plain", "haproxy", "plain", "http1", {}),
    ("entrada, plain", "entrada", "plain", "http1", {}),
    (f"entrada, {TOKEN}", "entrada", "token", "http1", {}),
    ("nginx, plain, eight more fields", "nginx", "plain", "http1", callgrind.EIGHT_MORE),
    ("HAProxy, plain, eight more fields", "haproxy", "plain", "http1", callgrind.EIGHT_MORE),
    ("entrada, plain, eight more fields", "entrada", "plain", "http1", callgrind.EIGHT_MORE),
    (f"entrada, {TOKEN}, eight more fields", "entrada", "token", "http1", callgrind.EIGHT_MORE),
    ("nginx, HTTP/2 client", "nginx", "h2", "http2", {}),
    ("HAProxy, HTTP/2 client", "haproxy", "h2", "http2", {}),
    ("entrada, HTTP/2 client, plain", "entrada", "plain", "http2", {}),
    (f"entrada, HTTP/2 client, {TOKEN}", "entrada", "token", "http2", {}),
    ("nginx, TLS", "nginx", "tls", "tls", {}),
    ("HAProxy, TLS", "haproxy", "tls", "tls", {}),
    ("entrada, TLS, plain", "entrada", "tls", "tls", {}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entrada", default=str(ROOT / "target/dist/entrada"), help="the gateway's binary, of the profile dist")
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows whose name matches")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave valgrind's files in this new folder")
    options = parser.parse_args()
    if not callgrind.installed("valgrind", "nginx", "haproxy", "h2load"):
        raise SystemExit("valgrind, nginx, haproxy or h2load is missing")
    with tempfile.TemporaryDirectory(prefix="entrada-counts-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if options.keep:
            options.keep.mkdir()
        backend = callgrind.free_port()
        material.MANY = 1
        material.make(folder, f"http://127.0.0.1:{backend}", 0, 1)
        token = (folder / "one.txt").read_text().strip()
        log = open(folder / "backend.log", "wb")
        server = subprocess.Popen(peers.backend(peers.Setup(folder, backend, backend, 1, "", "")) + ["-g", "master_process off;"], stderr=log)
        try:
            callgrind.connect(backend).close()
            print("| a request of | " + " | ".join(callgrind.Counts.NAMES) + " |\n| --- | --- | --- | --- |", flush=True)
            for index, (row, peer, kind, client, more) in enumerate(ROWS):
                if not re.search(options.rows, row):
                    continue

                def start(port: int, own: Path) -> list[str]:
                    setup = peers.Setup(own, port, backend, 1, "", options.entrada)
                    for file in folder.glob("tls.*"):
                        (own / file.name).write_bytes(file.read_bytes())
                    return peers.MAKERS[peer](setup, kind) + (["-g", "master_process off;"] if peer == "nginx" else [])

                own = (options.keep or folder) / str(index)
                counts = callgrind.cost(start, lambda port: callgrind.Load(port, token, more, client), own)
                print(f"| {row} | " + " | ".join(f"{count:,}" for count in counts) + " |", flush=True)
        finally:
            server.terminate()
            server.wait(10)


if __name__ == "__main__":
    main()
