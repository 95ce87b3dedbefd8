#!/usr/bin/env python3
"""A million records with a chain, written across reloads, rotations and two crashes: `entrada audit verify` finds nothing in them, and
finds each change of them.

    tests/records/chain.py [--records 1000000] [--seed NUMBER]

h2load (Debian: nghttp2-client) and openssl must be there. Everything is on loopback, and only processes that this started are ended.
"""

import argparse
import gzip
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from gateway import ENTRADA, Gateway, conduct, expect, until

CHUNK = 200_000
#: Connections, and the requests a second of each: more than that a busy machine of two cores may not get written.
CLIENTS, EACH = 32, 500
ROUTES = """routes:
  - { name: own, match: { path: /own }, anonymous: true, respond: { status: 200, body: fine } }
"""


def audit(size, every, mode):
    return f"""{ROUTES}audit:
  sinks:
    - file: {{ path: audit/r.jsonl, rotate: {{ size: {size} }}, compress: gzip, keep: 400d, mode: "{mode}" }}
    - file: {{ path: seals/s.jsonl, only: [error] }}
  chain: {{ seal: {{ every: {every}, key: seal.pem }} }}
"""


#: The configs between which reloads go.
CONFIGS = [audit("16MiB", "1s", "0640"), audit("24MiB", "2s", "0600")]


class Disturbance(threading.Thread):
    """Reloads with another size, mode and time of seals, and files that are moved away, while records are written."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.gateway, self.done, self.reloads, self.moved, self.error = gateway, threading.Event(), 0, 0, None

    def run(self):
        try:
            while not self.done.wait(2):
                self.reloads += 1
                self.gateway.reload(CONFIGS[self.reloads % 2])
                if self.reloads % 4 == 0:
                    # As logrotate does it.
                    self.moved += 1
                    audit = self.gateway.folder / "audit"
                    os.rename(audit / "r.jsonl", audit / f"moved-{time.time_ns()}.jsonl")
                    self.gateway.child.send_signal(signal.SIGUSR1)
                    until("the file is opened again", lambda: self.gateway.child.poll() is not None or (audit / "r.jsonl").exists())
        except (AssertionError, OSError) as error:
            # While the gateway is killed nothing else is to be expected.
            self.error = error

    def end(self):
        self.done.set()
        self.join()


def load(gateway, requests, crash):
    """Sends requests, and kills the gateway in the middle of them if it is to crash; returns how many were answered."""
    command = ["h2load", "--h1", "-n", str(requests), "-c", str(CLIENTS), "-t", "1", "--rps", str(EACH), "-H", "User-Agent: records", f"http://127.0.0.1:{gateway.port}/own/42"]
    disturbance = Disturbance(gateway)
    disturbance.start()
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if crash:
            began, first = time.monotonic(), gateway.overview()["requests"]["allowed"]
            while gateway.overview()["requests"]["allowed"] < first + requests // 2 and time.monotonic() - began < 300:
                time.sleep(0.2)
            gateway.kill()
        told, _ = running.communicate(timeout=600)
    finally:
        running.kill()
        running.wait()
        disturbance.end()
    if not crash and disturbance.error:
        raise disturbance.error
    return int(re.search(r"status codes: (\d+) 2xx", told)[1]), disturbance


def verify(files, *arguments):
    """Returns what `entrada audit verify` finds, and how long and with how much memory."""
    began = time.monotonic()
    command = [ENTRADA, "audit", "verify", "--format", "json", *map(str, arguments), *map(str, files)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        raise AssertionError(f"verify: {child.returncode}: {child.stderr.read()}")
    return json.loads(told) | {"code": child.returncode, "seconds": time.monotonic() - began, "resident": usage.ru_maxrss >> 10}


def records(path):
    with (gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")) as file:
        return file.read().splitlines(keepends=True)


def files_of(folder):
    return sorted(path for path in (folder / "audit").iterdir() if path.name.endswith((".jsonl", ".jsonl.gz")))


def untouched(folder, wanted):
    """nothing is found in untouched records, written across reloads, rotations and crashes"""
    for name in ("audit", "seals"):
        (folder / name).mkdir()
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(folder / "seal.pem")]
    subprocess.run(make, check=True, capture_output=True, timeout=60)
    (folder / "seal.pem").chmod(0o600)
    public = ["openssl", "pkey", "-in", str(folder / "seal.pem"), "-pubout", "-out", str(folder / "seal.pub.pem")]
    subprocess.run(public, check=True, capture_output=True, timeout=60)
    gateway = Gateway(folder)
    gateway.write(CONFIGS[0])
    gateway.start()
    began, answered, crashes, reloads, moved = time.monotonic(), 0, 0, 0, 0
    try:
        while answered < wanted:
            crash = crashes < 2 and answered >= wanted * (crashes + 1) // 4
            count, disturbance = load(gateway, min(CHUNK, max(wanted - answered, CHUNK // 4)), crash)
            answered, reloads, moved = answered + count, reloads + disturbance.reloads, moved + disturbance.moved
            if crash:
                crashes += 1
                gateway.write(CONFIGS[0])
                gateway.start()
        took = time.monotonic() - began
        gateway.end()
    finally:
        if gateway.child.poll() is None:
            gateway.kill()
    files = files_of(folder)
    found = verify(files, "--key", folder / "seal.pub.pem", "--anchor", folder / "seals/s.jsonl")
    expect((found["code"], found["findings"]), (0, []), "the findings")
    lines = [line for path in files for line in records(path)]
    requests = sum(b'"decision":"allow"' in line for line in lines)
    unclean = sum(b'"event":"unclean-end"' in line for line in lines)
    expect(unclean, crashes, "the crashes that are told")
    expect(len({line[line.index(b'"record_id":"') + 13 :][:32] for line in lines if b'"record_id":"' in line}), len(lines), "the ids")
    dropped = sum(json.loads(line)["count"] for line in lines if b'"event":"records-dropped"' in line)
    # What a worker had not handed on when it was killed: a tenth of a second of it, and what a busy machine adds.
    missing, most = max(answered - requests - dropped, 0), crashes * CLIENTS * EACH
    assert missing <= most, f"{missing} of {answered} answered requests are not recorded, more than those of {crashes} s"
    assert found["records"] >= wanted * 100 // 101 and len(files) > 10 and reloads > 5 and moved > 0, (len(files), reloads, moved)
    return (
        f"{found['records']:,} records in {len(files)} files, {reloads} reloads, {moved} files moved away, {dropped} records dropped and said, {crashes} crashes after "
        f"which {missing} answered requests have no record; {found['seals']['valid']} seals; written at {answered / took:,.0f} a second, verified in {found['seconds']:.1f} s "
        f"with {found['resident']} MiB"
    )


class Tampering:
    """Changes of three files that follow one another, each at a place of chance."""

    def __init__(self, seed, files):
        self.random, self.files = random.Random(seed), files

    def place(self, margin=5):
        """A file, and a line within it that is no seal and neither the first nor among the last."""
        which = self.random.randrange(len(self.files))
        lines = self.files[which]
        while True:
            at = self.random.randrange(margin, len(lines) - margin)
            if b'"decision":"allow"' in lines[at]:
                return which, at

    def replace(self, old, new):
        which, at = self.place()
        assert old in self.files[which][at]
        self.files[which][at] = self.files[which][at].replace(old, new, 1)

    def letter(self):
        which, at = self.place()
        line = bytearray(self.files[which][at])
        line[self.random.randrange(len(line) - 1)] ^= 1
        self.files[which][at] = bytes(line)

    def cut_out(self, count):
        which, at = self.place(count + 5)
        del self.files[which][at : at + count]

    def swap(self, distance):
        which, at = self.place(distance + 5)
        lines = self.files[which]
        lines[at], lines[at + distance] = lines[at + distance], lines[at]

    def turn_round(self):
        which, at = self.place(25)
        self.files[which][at : at + 20] = reversed(self.files[which][at : at + 20])

    def twice(self):
        which, at = self.place()
        self.files[which].insert(at, self.files[which][at])

    def move(self):
        which, at = self.place()
        line = self.files[which].pop(at)
        self.files[(which + 1) % len(self.files)].insert(self.random.randrange(5, 100), line)

    def insert(self, numbered):
        which, at = self.place()
        line = self.files[which][at].replace(b"/own/42", b"/own/43", 1)
        if not numbered:
            line = re.sub(rb',"seq":\d+,"prev":"[^"]+"', b"", line)
        self.files[which].insert(at, line)

    def renumber(self):
        """Takes a line out and closes the gap in the numbers."""
        which, at = self.place()
        lines = self.files[which]
        del lines[at]
        for index in range(at, len(lines)):
            lines[index] = re.sub(rb'"seq":(\d+)', lambda found: b'"seq":%d' % (int(found[1]) - 1), lines[index], count=1)

    def seal(self, old, new):
        seals = [(which, at) for which, lines in enumerate(self.files) for at, line in enumerate(lines) if b'"event":"seal"' in line]
        which, at = self.random.choice(seals)
        self.files[which][at] = re.sub(old, new, self.files[which][at], count=1)

    def last_lines(self, which, count):
        del self.files[which][-count:]

    def whole(self, which):
        self.files[which].clear()


#: Each kind of change, and whether it takes the seals that are kept elsewhere to see it.
CHANGES = [
    ("a letter of a line", lambda it: it.letter(), False),
    ("another path", lambda it: it.replace(b'"path":"/own/42"', b'"path":"/own/41"'), False),
    ("another decision", lambda it: it.replace(b'"decision":"allow"', b'"decision":"deny"'), False),
    ("another status", lambda it: it.replace(b'"status":200', b'"status":201'), False),
    ("another caller", lambda it: it.replace(b'"caller":"127.0.0.1"', b'"caller":"127.0.0.9"'), False),
    ("another time", lambda it: it.replace(b'"time":"20', b'"time":"21'), False),
    ("a member is gone", lambda it: it.replace(b'"complete":true,', b""), False),
    ("a blank", lambda it: it.replace(b",", b", "), False),
    ("a carriage return before the line end", lambda it: it.replace(b"}\n", b"}\r\n"), False),
    ("a line is gone", lambda it: it.cut_out(1), False),
    ("nineteen lines are gone", lambda it: it.cut_out(19), False),
    ("five thousand lines are gone", lambda it: it.cut_out(5_000), False),
    ("a line is gone, and those after it are numbered anew", lambda it: it.renumber(), False),
    ("neighbours change places", lambda it: it.swap(1), False),
    ("distant lines change places", lambda it: it.swap(300), False),
    ("twenty lines are turned round", lambda it: it.turn_round(), False),
    ("a line is there twice", lambda it: it.twice(), False),
    ("a line stands in another file", lambda it: it.move(), False),
    ("a line is put in", lambda it: it.insert(False), False),
    ("a line with a number is put in", lambda it: it.insert(True), False),
    ("a seal's time is another", lambda it: it.seal(rb'"sealed_at":1', b'"sealed_at":2'), False),
    ("a seal's signature is another", lambda it: it.seal(rb'"signature":"....', b'"signature":"AAAA'), False),
    ("a file ends early", lambda it: it.last_lines(1, 100), False),
    ("a file in the middle is empty", lambda it: it.whole(1), False),
    ("the newest file ends early, before its last seal", lambda it: it.last_lines(2, 100), False),
    ("the newest file is gone", lambda it: it.files.pop(), True),
]


def changed(folder, seed):
    """each of the kinds of edits, gaps, reorderings and truncations is found, at five places of chance each"""
    def first(path):
        return json.loads(records(path)[0])["seq"]

    # Sorted by what they begin with, since some were moved away by hand. The last three of some size that follow one another, but the newest.
    files = sorted(files_of(folder), key=first)[:-1]
    triples = ([records(path) for path in files[at - 3 : at]] for at in range(len(files), 2, -1))
    house = next(triple for triple in triples if min(map(len, triple)) > 12_000)
    work = folder / "changed"
    work.mkdir(exist_ok=True)
    key, seals = folder / "seal.pub.pem", folder / "seals/s.jsonl"

    def found(files, *anchor):
        for path in work.iterdir():
            path.unlink()
        paths = [work / f"{index}.jsonl" for index, _ in enumerate(files)]
        for path, lines in zip(paths, files):
            path.write_bytes(b"".join(lines))
        return verify(paths, "--key", key, *anchor)

    # Seals that go further than these files would be a finding; up to here they are none.
    last = json.loads(house[-1][-1])["seq"]
    kept = folder / "anchors.jsonl"
    kept.write_bytes(b"".join(line for line in records(seals) if b'"event":"seal"' in line and json.loads(line)["sealed"]["seq"] <= last))
    expect(found(house, "--anchor", kept)["findings"], [], "the findings before a change")
    unseen = []
    for index, (name, change, anchored) in enumerate(CHANGES):
        for place in range(5):
            tampering = Tampering(seed + 100 * index + place, [list(lines) for lines in house])
            change(tampering)
            result = found(tampering.files, *(["--anchor", kept] if anchored else []))
            if result["code"] != 1 or not result["findings"]:
                unseen.append(f"{name} (seed {seed + 100 * index + place})")
    expect(unseen, [], "the changes that nobody saw")
    return f"{len(CHANGES)} kinds in {sum(map(len, house)):,} lines, {5 * len(CHANGES)} changes"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000, help="the number of records (a million)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where lines are changed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="entrada-chain-") as name:
        folder = Path(name)

        def first():
            # Some more, for those that a crash takes with it.
            return untouched(folder, options.records * 101 // 100)

        def second():
            return f"{changed(folder, options.seed)}, seed {options.seed}"

        first.__doc__, second.__doc__ = untouched.__doc__, changed.__doc__
        conduct(first, second)


if __name__ == "__main__":
    main()
