"""A gateway on loopback that is killed, reloaded and started again, and who calls it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENTRADA = os.environ.get("ENTRADA", str(ROOT / "target/release/entrada"))
#: The longest wait for anything that is expected.
PATIENCE = 240


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, patience=PATIENCE):
    """Waits until the condition holds, and returns what it returned."""
    began = time.monotonic()
    while True:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        if time.monotonic() - began > patience:
            raise AssertionError(f"never: {what}")
        time.sleep(0.05)


def expect(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, and not {wanted!r}")


def fetch(url, body=None, method=None):
    request = urllib.request.Request(url, None if body is None else body.encode(), {"content-type": "application/json"}, method=method)
    # Whatever proxy the environment names is not asked for loopback.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
        return answer.read().decode()


class Gateway:
    """`entrada run` in a folder, with `entrada.yaml` there. Its log is kept across starts."""

    def __init__(self, folder, *, workers=1, user=None):
        self.folder, self.workers, self.user = Path(folder), workers, user
        self.port, self.admin, self.child, self.starts = free_port(), free_port(), None, 0

    def write(self, text):
        head = f'listeners: [ {{ name: public, address: "127.0.0.1:{self.port}" }} ]\nadmin: {{ address: "127.0.0.1:{self.admin}" }}\n'
        (self.folder / "entrada.yaml").write_text(head + text)

    def start(self):
        command = [ENTRADA, "run", "--workers", str(self.workers), "--config", str(self.folder / "entrada.yaml")]
        options = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        with open(self.folder / "log", "ab") as log:
            self.child = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=log, stdin=subprocess.DEVNULL, **options)
        self.starts += 1
        until("the gateway listens", lambda: self.child.poll() is not None or fetch(f"http://127.0.0.1:{self.admin}/healthz"))
        if self.child.poll() is not None:
            raise AssertionError(f"the gateway has ended:\n{self.log()[-2000:]}")
        return self

    def reload(self, text):
        """Takes another config, and waits until it is in force, or the gateway is gone."""
        generation = self.overview()["generation"]
        self.write(text)
        self.child.send_signal(signal.SIGHUP)
        until("the reload", lambda: self.child.poll() is not None or self.overview()["generation"] > generation)

    def overview(self):
        return json.loads(fetch(f"http://127.0.0.1:{self.admin}/api/overview"))

    def sinks(self):
        """The state of each sink, by its name."""
        status = json.loads(fetch(f"http://127.0.0.1:{self.admin}/api/status?parts=audit_sinks"))
        return {sink["name"]: sink for sink in status["audit_sinks"]}

    def kill(self):
        self.child.kill()
        self.child.wait()

    def end(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("the gateway did not end by itself") from None

    def log(self):
        return (self.folder / "log").read_text(errors="replace")


class Callers:
    """Clients that ask for `/own/NUMBER`, a few requests ahead on each connection, and note when each was answered."""

    CONNECTIONS, AHEAD = 4, 16
    #: So that a record has about a kilobyte.
    AGENT = "records/" + 240 * "x"
    END = b"\r\n\r\nfine"

    def __init__(self, port):
        self.port, self.answered, self.lock = port, {}, threading.Lock()

    def call(self, numbers):
        """Returns whether all were answered: those that were under way on a connection that broke were perhaps not."""
        numbers = list(numbers)
        whole = []
        parts = [numbers[part :: self.CONNECTIONS] for part in range(self.CONNECTIONS)]
        threads = [threading.Thread(target=lambda part=part: whole.append(self.on_one(part))) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return all(whole)

    def on_one(self, numbers):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                for at in range(0, len(numbers), self.AHEAD):
                    some = numbers[at : at + self.AHEAD]
                    heads = (f"GET /own/{number} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {self.AGENT}\r\n\r\n" for number in some)
                    connection.sendall("".join(heads).encode())
                    received, known = b"", 0
                    while known < len(some):
                        part = connection.recv(1 << 16)
                        if not part:
                            return False
                        received += part
                        ends, now = received.count(self.END), time.monotonic()
                        with self.lock:
                            self.answered.update((number, now) for number in some[known:ends])
                        known = ends
                    statuses = re.findall(rb"HTTP/1.1 (\d+)", received)
                    assert statuses == [b"200"] * len(some), received[:300]
        except OSError:
            return False
        return True


def conduct(*parts):
    """Runs each part; the exit code says whether all held."""
    failed = 0
    for part in parts:
        began = time.monotonic()
        try:
            note = part()
            print(f"ok      {part.__doc__}\n        {note} ({time.monotonic() - began:.0f} s)", flush=True)
        except Exception as error:  # noqa: BLE001 - what fails must not end the others
            failed += 1
            print(f"FAILED  {part.__doc__}\n        {type(error).__name__}: {error} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(parts) - failed} passed, {failed} failed")
    sys.exit(failed > 0)
