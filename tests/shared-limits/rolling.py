#!/usr/bin/env python3
"""Two gateways in network namespaces of their own, behind HAProxy: restarted in turn and reloaded under load, without a failed request.

    tests/shared-limits/rolling.py [--requests 100000] [--server PROGRAM]

Load, HAProxy and backend are in one namespace, each gateway and the store of their limits in one of their own, all on a bridge. HAProxy sends
to a gateway whose `/readyz` says yes, and tries nothing twice. Meanwhile the gateways are restarted one after the other, again and again, and
the folder of their config is swapped as the kubelet swaps that of a ConfigMap. All requests count against one limit that is as large as
their number: each has to pass, and the next one must not. Then the store is cut off, so that not even a refusal comes from its network.

It needs root, and a kernel with namespaces; what it makes ends with it. Every wait is bounded.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from fleet import ENTRADA, Backend, Fleet, Load, Process, Store, free_port, until

HERE = Path(__file__).resolve()
LOAD, GATEWAYS, STORE = "10.77.0.1", ["10.77.0.11", "10.77.0.12"], "10.77.0.21"
PUBLIC, HEALTH, REDIS = 8080, 9902, 6379
#: The deadline of a call to the store, and what a busy machine may add to it.
TIMEOUT, SLACK = 0.25, 0.85
CONNECTIONS = 64
KEY = "@(request.headers['x-key'])"


def config(backend, calls, version, timeout=5.0):
    """The config of both gateways, to the letter; a reload changes the version. The store has time enough, unless its time is what matters."""
    limit = f'calls: {calls}, renewal-period: 1h, counter-key: "{KEY}", store: redis'
    return f"""
listeners: [ {{ name: public, address: "0.0.0.0:{PUBLIC}" }} ]
admin: {{ address: "127.0.0.1:9901" }}
health: {{ address: "0.0.0.0:{HEALTH}" }}
drain-delay: 5s
drain-timeout: 10s
audit: {{ sinks: [] }}
redis: {{ url: "redis://{STORE}:{REDIS}", insecure: true, timeout: {int(timeout * 1000)}ms, key-secret: "a key secret for tests alone" }}
upstreams: {{ backend: {{ servers: ["http://{LOAD}:{backend}"] }} }}
routes:
  - name: counted
    match: {{ path: /counted }}
    anonymous: true
    upstream: backend
    inbound: [ rate-limit-by-key: {{ {limit} }}, set-header: {{ name: X-Config, value: "{version}" }} ]
  - {{ name: local, match: {{ path: /local }}, anonymous: true, upstream: backend, inbound: [ rate-limit-by-key: {{ {limit}, on-store-failure: local }} ] }}
"""


def haproxy(port):
    servers = "".join(f"  server gateway-{number} {address}:{PUBLIC} check port {HEALTH}\n" for number, address in enumerate(GATEWAYS))
    return f"""
global
  maxconn 2000
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  # On a busy machine an answer takes its time; that of a gateway which drains is a no, and comes as soon.
  timeout check 10s
frontend front
  bind 127.0.0.1:{port}
  default_backend gateways
backend gateways
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  default-server inter 200ms fall 2 rise 2
{servers}"""


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class Namespace(Process):
    """A network namespace with one address on the bridge; it lasts as long as the process that holds it."""

    def __init__(self, folder, address):
        super().__init__(["unshare", "--net", "sleep", "900"], folder)
        self.address, self.port = address, f"p{address.rsplit('.', 1)[1]}"

    def start(self):
        super().start()
        own = os.readlink("/proc/self/ns/net")
        until("the namespace is there", lambda: os.readlink(f"/proc/{self.child.pid}/ns/net") != own)
        ip("link", "add", self.port, "type", "veth", "peer", "name", "inner", "netns", str(self.child.pid))
        ip("link", "set", self.port, "master", "bridge", "up")
        subprocess.run([*self.enter(), "sh", "-c", f"ip link set lo up; ip address add {self.address}/24 dev inner; ip link set inner up"], check=True)
        return self

    def enter(self):
        return ["nsenter", f"--net=/proc/{self.child.pid}/ns/net"]

    def cut(self):
        """Takes the bridge's port away: what is sent is lost, and nobody is told."""
        ip("link", "set", self.port, "nomaster")

    def mend(self):
        ip("link", "set", self.port, "master", "bridge")


class Replica(Process):
    """A gateway whose config folder looks as the kubelet makes it."""

    def __init__(self, folder, namespace):
        self.address, self.versions, self.mounted = namespace.address, 0, folder / "mounted"
        super().__init__([*namespace.enter(), ENTRADA, "run", "--workers", "1", self.mounted / "entrada.yaml"], folder)

    def put(self, text):
        """Puts a config there: a new folder, to which one link is turned."""
        self.versions += 1
        version = self.mounted / f"..version-{self.versions}"
        version.mkdir(parents=True)
        (version / "entrada.yaml").write_text(text)
        link = self.mounted / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.mounted / "..data")
        if self.versions == 1:
            (self.mounted / "entrada.yaml").symlink_to("..data/entrada.yaml")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.address}:{HEALTH}{path}", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def metric(self, name):
        return [line for line in self.get("/metrics").splitlines() if line.startswith(name)]

    def digest(self):
        return self.metric("entrada_config_info")

    def is_ready(self):
        return self.get("/readyz") == "ready\n"

    def start(self):
        super().start()
        until(f"{self.address} is ready", self.is_ready)
        until(f"{self.address} has its store", lambda: any(line.endswith(" 1") for line in self.metric("entrada_limit_store_up")))
        return self

    def restart(self):
        """Ends it as a kubelet does, and starts it anew."""
        self.signal(signal.SIGTERM)
        code = self.child.wait(60)
        assert code == 0, f"{self.address} ended with {code}"
        self.start()


class Balancer(Process):
    """HAProxy, and what it says of the gateways."""

    def __init__(self, folder, port):
        folder.mkdir()
        self.socket = folder / "socket"
        (folder / "haproxy.cfg").write_text(haproxy(port).replace("global\n", f"global\n  stats socket {self.socket} level admin\n"))
        super().__init__(["haproxy", "-db", "-f", folder / "haproxy.cfg"], folder)

    def states(self):
        import socket

        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            connection.sendall(b"show stat\n")
            told = b""
            while part := connection.recv(65536):
                told += part
        rows = [line.split(",") for line in told.decode().lstrip("# ").splitlines() if line]
        state = rows[0].index("status")
        return {row[1]: row[state] for row in rows if row[1].startswith("gateway-")}

    def all_up(self):
        try:
            return sorted(self.states().values()) == ["UP"] * len(GATEWAYS)
        except OSError:
            return False


async def roll(balancer, replicas, load, texts):
    """Restarts one after the other until the load has ended; the config is swapped once in the course of that."""
    restarts = 0
    while not load.done():
        for replica in replicas:
            await asyncio.to_thread(replica.restart)
            await asyncio.to_thread(until, "both gateways are in the balance", balancer.all_up)
            restarts += 1
            if load.done():
                break
        if texts and not load.done():
            await asyncio.to_thread(swap, replicas, texts.pop())
    return restarts


def swap(replicas, text):
    """Gives both another config, and waits until it is in force in both."""
    before = {line for replica in replicas for line in replica.digest()}
    assert len(before) == 1, before
    for replica in replicas:
        replica.put(text)
    until("both have the new config", lambda: all(set(it.digest()) not in (set(), before) for it in replicas))
    after = {line for replica in replicas for line in replica.digest()}
    assert len(after) == 1, after


async def under_load(balancer, replicas, port, requests, text):
    texts = [text]
    sent = asyncio.ensure_future(Load().run([port], "/counted", requests=requests, connections=CONNECTIONS))
    restarts = await roll(balancer, replicas, sent, texts)
    load = await sent
    total = sum(load.statuses.values())
    print(f"{total} requests: {load.statuses}, the slowest {load.longest * 1000:.0f} ms; {restarts} restarts, {1 - len(texts)} swap", flush=True)
    told = [line for line in balancer.log().splitlines() if "DOWN" in line and "Layer7 wrong status, code: 503" not in line]
    assert set(load.statuses) == {204}, f"requests failed: {load.failures}; {told}"
    assert restarts >= 2 * len(replicas) and not texts, "the load ended before the gateways were restarted twice"
    beyond = await Load().run([port], "/counted", requests=CONNECTIONS, connections=4)
    assert set(beyond.statuses) == {429}, f"the limit was reached, and then {beyond.statuses}"
    print("the limit of all of them is used up to the last call", flush=True)


async def cut_off(store, replicas, port):
    """No packet reaches the store, and none comes back."""
    await asyncio.to_thread(store.cut)
    refused, local = await asyncio.gather(
        Load().run([port], "/counted", key="b", seconds=3, connections=8), Load().run([port], "/local", key="c", seconds=3, connections=8)
    )
    longest = max(refused.longest, local.longest)
    await asyncio.to_thread(store.mend)
    up = lambda replica: any(line.endswith(" 1") for line in replica.metric("entrada_limit_store_up"))  # noqa: E731
    back = await asyncio.to_thread(until, "both use the store again", lambda: all(up(it) for it in replicas))
    print(f"store cut off: {refused.statuses} and, counted locally, {local.statuses}, the slowest {longest * 1000:.0f} ms; back after {back:.1f} s", flush=True)
    assert set(refused.statuses) == {503} and set(local.statuses) == {204} and longest < TIMEOUT + SLACK
    # With this deadline a busy machine refuses one or the other call at any time.
    for _ in range(20):
        if set((await Load().run([port], "/counted", key="b", requests=200, connections=8)).statuses) == {204}:
            return
    raise AssertionError("never: all calls pass again")


async def run(options):
    ip("link", "set", "lo", "up")
    ip("link", "add", "bridge", "type", "bridge")
    ip("address", "add", f"{LOAD}/24", "dev", "bridge")
    ip("link", "set", "bridge", "up")
    backend = Backend()
    # Requests are under way whenever a gateway ends, and the load lasts for some restarts.
    backend.takes = 0.02
    await backend.start(LOAD)
    requests = -(-options.requests // CONNECTIONS) * CONNECTIONS
    with Fleet() as fleet:
        spaces = {address: await asyncio.to_thread(fleet.add, Namespace(fleet.name("namespace"), address)) for address in [*GATEWAYS, STORE]}
        store = Store(options.server, fleet.name("store"), address=STORE, port=REDIS, enter=spaces[STORE].enter())
        await asyncio.to_thread(fleet.add, store)
        replicas = []
        for address in GATEWAYS:
            replica = Replica(fleet.name("gateway"), spaces[address])
            replica.put(config(backend.port, requests, "one"))
            replicas.append(await asyncio.to_thread(fleet.add, replica))
        port = free_port()
        balancer = await asyncio.to_thread(fleet.add, Balancer(fleet.name("haproxy"), port))
        await asyncio.to_thread(until, "both gateways are in the balance", balancer.all_up)
        await under_load(balancer, replicas, port, requests, config(backend.port, requests, "two"))
        await asyncio.to_thread(swap, replicas, config(backend.port, requests, "three", TIMEOUT))
        await cut_off(spaces[STORE], replicas, port)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--server", default="redis-server", help="the store's program")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        if os.geteuid() != 0:
            sys.exit("it needs root, for network namespaces")
        os.execvp("unshare", ["unshare", "--net", sys.executable, str(HERE), *sys.argv[1:], "--inside"])
    asyncio.run(asyncio.wait_for(run(options), 540))


if __name__ == "__main__":
    main()
