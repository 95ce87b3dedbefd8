#!/usr/bin/env python3
"""A hundred thousand requests while receivers are away, throttle and lose answers, disks are full, the spool cannot be written to, and the
gateway is killed: each record that was appended arrives, and what was dropped is said.

    tests/records/outages.py [--requests 100000]

Root mounts two small file systems for it. openssl need not be there; the development tenant plays Azure Monitor. Everything is on loopback,
and only processes that this started are ended.
"""

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from collectors import Collector, Syslog
from gateway import ENTRADA, Callers, Gateway, conduct, expect, fetch, free_port, until

CLIENT = "00001111-aaaa-2222-bbbb-3333cccc4444"
RULE = "dcr-00000000000000000000000000000000"
STREAM = "Custom-Entrada_CL"
NOBODY = 65534


def config(house):
    return f"""tenants: {{ contoso: {{ id: {house.tenant_id}, authority: "{house.base}" }} }}
credentials: {{ gateway: {{ tenant: contoso, client-id: {CLIENT}, certificate: {{ pem: gateway.pem }} }} }}
routes:
  - {{ name: own, match: {{ path: /own }}, anonymous: true, respond: {{ status: 200, body: fine }} }}
audit:
  sinks:
    - file: {{ path: whole.jsonl }}
    - file: {{ path: small/r.jsonl }}
    - syslog: {{ address: "tcp://127.0.0.1:{house.syslog.port}" }}
    - otlp: {{ endpoint: "http://127.0.0.1:{house.collector.port}" }}
    - azure-monitor: {{ endpoint: "{house.base}", rule: {RULE}, stream: {STREAM}, credential: gateway }}
  spool: {{ directory: disk/spool, size: 32MiB }}
"""


class House:
    """The gateway with its disks and its receivers."""

    def __init__(self, folder):
        self.folder, self.mounted, self.tenant = folder, [], None
        self.collector, self.syslog = Collector(), Syslog()
        self.azure, self.azure_numbers, self.azure_events = Counter(), set(), Counter()
        self.callers, self.gateway = None, Gateway(folder, user=NOBODY)
        self.kills = []

    def __enter__(self):
        try:
            return self.open()
        except BaseException:
            self.__exit__()
            raise

    def open(self):
        # Whoever is nobody has to get in.
        self.folder.chmod(0o755)
        os.chown(self.folder, NOBODY, NOBODY)
        for name, size in (("disk", "80m"), ("small", "160m")):
            path = self.folder / name
            path.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},uid={NOBODY},gid={NOBODY},mode=755", "tmpfs", str(path)], check=True)
            self.mounted.append(path)
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        with open(self.folder / "tenant.log", "wb") as log:
            command = [ENTRADA, "dev-tenant", "--address", f"127.0.0.1:{port}"]
            self.tenant = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until("the tenant", lambda: fetch(f"{self.base}/"))
        self.tenant_id = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
        make = [ENTRADA, "certificate", "new", "--subject", "CN=gateway", "--out", str(self.folder / "gateway.pem"), "--format", "json"]
        made = json.loads(subprocess.run(make, check=True, capture_output=True, timeout=60).stdout)
        os.chown(self.folder / "gateway.pem", NOBODY, NOBODY)
        app = {"client_id": CLIENT, "name": "Gateway", "identifier_uris": ["api://gateway"], "certificates": [made["key_credential"]["key"]]}
        fetch(f"{self.base}/dev/apps", json.dumps(app))
        self.gateway.write(config(self))
        self.gateway.start()
        self.callers = Callers(self.gateway.port)
        return self

    def __exit__(self, *_):
        try:
            self.gateway.end()
        finally:
            if self.tenant:
                self.tenant.terminate()
                self.tenant.wait(20)
            for path in self.mounted:
                subprocess.run(["umount", "--lazy", str(path)], check=True)

    def fail(self, **fault):
        fetch(f"{self.base}/dev/fail", json.dumps({"path": "/streams/", **fault}))

    def recover(self):
        fetch(f"{self.base}/dev/recover", method="POST")

    def away(self):
        """No receiver can be reached."""
        self.collector.close()
        self.syslog.close()
        self.fail(status=503, headers=[["Retry-After", "1"]])

    def back(self):
        self.collector.open()
        self.syslog.open()
        self.recover()

    def full(self):
        """Fills both disks until `free`, also where a file of the spool is deleted meanwhile."""
        self.filling = threading.Event()
        self.fillers = [threading.Thread(target=self.fill, args=(path / "filler", self.filling), daemon=True) for path in self.mounted]
        for filler in self.fillers:
            filler.start()
        until("the disks are full", lambda: all(os.statvfs(path).f_bavail == 0 for path in self.mounted))

    @staticmethod
    def fill(path, ended):
        with open(path, "wb", buffering=0) as filler:
            size = 1 << 20
            while not ended.is_set():
                try:
                    filler.write(bytes(size))
                except OSError:
                    size = max(size // 2, 4096)
                    ended.wait(0.001)

    def free(self):
        self.filling.set()
        for filler in self.fillers:
            filler.join()
        for path in self.mounted:
            (path / "filler").unlink()

    def settle(self):
        """Waits until nothing waits in the spool, and takes the rows that Azure has got."""
        # What the workers have in their buffers is written out first.
        fetch(f"http://127.0.0.1:{self.gateway.admin}/api/decisions?limit=1")

        def empty():
            sinks = self.gateway.sinks()
            return all(sink.get("spooled_bytes", 0) == 0 for sink in sinks.values()) and sinks

        sinks = until("the spool is empty", empty)
        rows = json.loads(fetch(f"{self.base}/dev/monitor/rows?stream={STREAM}"))
        fetch(f"{self.base}/dev/monitor/rows?stream={STREAM}", method="DELETE")
        for row in rows:
            self.azure[row["RecordId"]] += 1
            if "Event" in row:
                self.azure_events[row["Event"]] += 1
            elif row["Path"].startswith("/own/"):
                self.azure_numbers.add(int(row["Path"][5:]))
        return sinks

    def kill_during(self, numbers):
        """Kills the gateway in the middle of requests, starts it again, and sends the rest."""
        numbers = list(numbers)
        calling = threading.Thread(target=self.callers.call, args=(numbers,))
        before = len(self.callers.answered)
        calling.start()
        until("half of the requests", lambda: len(self.callers.answered) - before > len(numbers) // 2)
        self.gateway.kill()
        self.kills.append(time.monotonic())
        calling.join()
        self.gateway.start()
        rest = [number for number in numbers if number not in self.callers.answered]
        # Those that were under way are not sent again: whether they were judged is not known.
        assert self.callers.call(rest[self.callers.CONNECTIONS * self.callers.AHEAD :])

    def receivers(self):
        return {
            "azure-monitor": (self.azure, self.azure_numbers, self.azure_events),
            "otlp": (self.collector.received, self.collector.numbers, self.collector.events),
            "syslog": (self.syslog.received, self.syslog.numbers, self.syslog.events),
        }


def written(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{") and line.endswith("}")]


def walk(house, total):
    """every record that was appended arrives, and what was dropped is said"""
    tenth = total // 10
    part = lambda first, last: range(first * tenth, last * tenth)  # noqa: E731
    say = lambda text: print(f"        {text}", flush=True)  # noqa: E731
    answered = house.callers.answered

    assert house.callers.call(part(0, 1))
    house.settle()
    say("all is well: settled")

    house.away()
    assert house.callers.call(part(1, 2))
    house.back()
    house.settle()
    say("receivers away: settled")

    # Not more than a few at once: the pauses between attempts double.
    for fault in ({"status": 429, "headers": [["Retry-After", "1"]], "times": 2}, {"status": 413, "times": 4}, {"status": 500, "times": 1}):
        house.fail(**fault)
    later = {"Retry-After": "1"}
    with house.collector.lock:
        house.collector.faults += [(429, later, False), (413, {}, False), (413, {}, False), (503, later, False)]
    half = 2 * tenth + tenth // 2
    assert house.callers.call(range(2 * tenth, half))
    house.settle()
    for fault in ({"cut": True, "times": 1}, {"lose_answer": True, "times": 2}, {"status": 401, "times": 1}):
        house.fail(**fault)
    with house.collector.lock:
        house.collector.faults += [(502, {}, False), (None, {}, True), (500, {}, True)]
    house.syslog.break_off = 3
    assert house.callers.call(range(half, 3 * tenth))
    house.settle()
    say("429, 413, 5xx, connections cut, answers lost: settled")

    house.away()
    house.kill_during(part(3, 4))
    house.back()
    house.settle()
    say("killed while receivers were away: settled")

    house.full()
    assert house.callers.call(part(4, 5))
    failing = {name for name, sink in house.gateway.sinks().items() if "No space left" in sink.get("error", "")}
    expect(failing, {"spool", "file:small/r.jsonl"}, "the sinks that say that a disk is full")
    house.free()
    sinks = house.settle()
    expect({name: sink["dropped"] for name, sink in sinks.items() if sink["dropped"]}, {}, "what a short time without a disk costs")
    until("the file is written again", lambda: "error" not in house.gateway.sinks()["file:small/r.jsonl"] or house.callers.call([total + 1]))
    say("disks full for a while: settled")

    house.full()
    assert house.callers.call(part(5, 8)), "no request waits for a disk"
    house.free()
    until("the disks are used again", lambda: house.callers.call([total + 2]) and not any("error" in sink for sink in house.gateway.sinks().values()))
    sinks = house.settle()
    dropped = {name.split(":")[0]: sink["dropped"] for name, sink in sinks.items() if sink["dropped"]}
    say(f"disks full for longer than 16 MiB: {dropped}")

    (house.folder / "disk/spool").chmod(0o500)
    assert house.callers.call(part(8, 9))
    error = house.gateway.sinks()["spool"].get("error", "")
    assert "Permission denied" in error, f"the spool says that it cannot be written to: {error!r}"
    (house.folder / "disk/spool").chmod(0o700)
    house.settle()
    say("a spool that cannot be written to: settled")

    house.kill_during(part(9, 10))
    assert house.callers.call([total + 3])
    house.settle()
    house.gateway.end()
    say("killed at work: settled")

    # Those that are answered in the last moment before a crash may be missing, and nothing else, but where a disk was full.
    lost_by_crash = lambda number: any(0 <= kill - answered[number] < 1 for kill in house.kills)  # noqa: E731
    full = {*part(5, 8), total + 2}
    report = []
    whole = {int(record["path"][5:]) for record in written(house.folder / "whole.jsonl") if "path" in record}
    small = {int(record["path"][5:]) for record in written(house.folder / "small/r.jsonl") if "path" in record}
    numbers = {name: numbers for name, (_, numbers, _) in house.receivers().items()} | {"file": small, "the whole file": whole}
    for name, arrived in numbers.items():
        missing = set(answered) - arrived
        crashed = {number for number in missing if lost_by_crash(number)}
        unexplained = missing - crashed - full
        assert not unexplained, f"{name}: {len(unexplained)} are missing: {sorted(unexplained)[:5]}"
        gone, said = len((missing - crashed) & full), dropped.get(name, 0)
        assert gone <= said <= gone + 20, f"{name}: {gone} are missing and {said} are said"
        report.append(f"{name}: {len(arrived):,} arrived, {gone:,} dropped and said, {len(crashed)} of a crash's last moment")
    # Each loss is a record itself, which the file that was never full has.
    told = Counter()
    for record in written(house.folder / "whole.jsonl"):
        if record.get("event") in ("records-dropped", "spool-full"):
            told[record["sink"].split(":")[0]] += record["count"]
    expect(dict(told), dropped, "the records that tell of losses")
    for name, (received, _, events) in house.receivers().items():
        expect(events["unclean-end"], 2, f"the crashes that {name} was told of")
        report.append(f"{name}: {sum(received.values()) - len(received):,} came twice and have their first id")
    return "\n        ".join(report)


def read_only(house):
    """a spool on a disk that is read-only is told at the start, and nothing starts"""
    subprocess.run(["mount", "-o", "remount,ro", str(house.mounted[0])], check=True)
    command = [ENTRADA, "run", "--config", str(house.folder / "entrada.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=house.folder, user=NOBODY, group=NOBODY, extra_groups=[])
    assert done.returncode not in (0, -9) and "disk/spool" in done.stderr and "Read-only" in done.stderr, (done.returncode, done.stderr[-500:])
    return done.stderr.strip().splitlines()[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000, help="the number of requests (a hundred thousand)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="entrada-outages-", ignore_cleanup_errors=True) as name, House(Path(name)) as house:
        def first():
            return walk(house, options.requests)

        def second():
            return read_only(house)

        first.__doc__, second.__doc__ = walk.__doc__, read_only.__doc__
        conduct(first, second)


if __name__ == "__main__":
    main()
