"""What happens to a store in the long run: users and passwords change, configs are read anew, clocks differ, and somebody reads its dump."""

import asyncio
import json
import re
import signal
import ssl
import subprocess
import urllib.request
from base64 import urlsafe_b64decode
from pathlib import Path

from common import KEY, ROOT, SLACK, TIMEOUT, doctor, never_more_than, rate, scenario, settings
from fleet import ENTRADA, Backend, Fleet, Load, Process, free_port, until

#: Moves the clock that a process sees.
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@scenario
async def users(program):
    """The rule in the documentation is enough, and `doctor` names what is missing."""
    backend = await Backend().start()
    page = (ROOT / "docs/limits.md").read_text()
    rule = re.search(r"^ACL SETUSER entrada (.*)$", page, re.MULTILINE).group(1).replace("PASSWORD", "hunter2").split()
    with Fleet() as fleet:
        store = fleet.store(program)
        store.ask("ACL", "SETUSER", "entrada", *rule)
        policies = {
            "a": rate(5, "60s"),
            "b": f'limit-concurrency: {{ max-count: 8, key: "{KEY}", store: redis }}',
            "c": f'quota-by-key: {{ calls: 5, bandwidth: 1MiB, renewal-period: 60s, counter-key: "{KEY}", store: redis }}',
        }
        login = ', username: entrada, password: "hunter2"'
        gateways = fleet.gateways(1, settings(store, login), policies, backend)
        for path, passed in [("/a", 5), ("/b", 8), ("/c", 5)]:
            load = await Load().run([gateways[0].port], path, requests=8, connections=1)
            assert load[204] == passed and load[503] == 0, (path, load.statuses)
        assert doctor(gateways[0]) == (0, [])
        for command in ["time", "zadd", "evalsha"]:
            store.ask("ACL", "SETUSER", "entrada", f"-{command}")
            code, failed = doctor(gateways[0])
            assert code == 1 and failed and (command == "evalsha" or command.upper() in failed[0]["found"]), (command, failed)
            store.ask("ACL", "SETUSER", "entrada", f"+{command}")
        store.ask("ACL", "SETUSER", "entrada", "-time")
        load = await Load().run([gateways[0].port], "/a", "another", requests=8, connections=1)
        assert load[503] == 8 and load.failures == {"limit-store-unavailable"}, (load.statuses, load.failures)
        store.ask("ACL", "SETUSER", "entrada", "+time")
        await asyncio.to_thread(until, "the store is used again", gateways[0].is_up)
        store.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        store.ask("ACL", "SETUSER", "entrada", "+config|get")
        assert "allkeys-lru" in doctor(gateways[0], "warning")[1][0]["found"]
        store.ask("ACL", "SETUSER", "entrada", "~other:*", "resetkeys")
        code, failed = doctor(gateways[0])
        assert code == 1 and failed, failed


@scenario
async def tls(program):
    """TLS with an own authority; a certificate of another name or authority is refused."""
    backend = await Backend().start()
    with Fleet() as fleet:
        made = fleet.folder / "tls"
        made.mkdir()
        for name in ["ours", "theirs"]:
            certificate(made, f"{name}-ca", "basicConstraints=critical,CA:TRUE")
        certificate(made, "server", "basicConstraints=critical,CA:FALSE", "-CA", "ours-ca.pem", "-CAkey", "ours-ca.key")
        files = ["--tls-cert-file", made / "server.pem", "--tls-key-file", made / "server.key", "--tls-ca-cert-file", made / "ours-ca.pem"]
        note = ""
        try:
            store = fleet.store(program, tls=[*files, "--tls-auth-clients", "no"])
        except AssertionError:
            note = "this server has no TLS: it is behind a proxy that has"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(made / "server.pem", made / "server.key")
            store = fleet.link(fleet.store(program), context)
        url = f'url: "rediss://127.0.0.1:{store.port}", timeout: 300ms, tls: {{ ca: "{made}/NAME-ca.pem" }}'
        gateways = fleet.gateways(1, url.replace("NAME", "ours"), {"a": rate(5, "60s")}, backend)
        load = await Load().run([gateways[0].port], "/a", requests=8, connections=1)
        assert load[204] == 5, load.statuses
        for wrong in [url.replace("NAME", "theirs"), url.replace("NAME-ca.pem\"", "ours-ca.pem\", server-name: other.example")]:
            gateways[0].file.write_text(re.sub(r'url: "rediss.*?\}', wrong, gateways[0].file.read_text(), count=1))
            code, failed = doctor(gateways[0])
            assert code == 1 and "certificate" in failed[0]["found"], failed
            gateways[0].kill()
            Process.start(gateways[0])
            await asyncio.to_thread(until, "the gateway is there", lambda: gateways[0].status()["state"] == "down")
            load = await Load().run([gateways[0].port], "/a", requests=8, connections=1)
            assert load[503] == 8, load.statuses
        return note


def certificate(folder, name, constraints, *signed):
    """Makes a key and a certificate for loopback."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", constraints]
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
    subprocess.run([*command, *names, *files, *signed], cwd=folder, check=True, capture_output=True)


def connections(store):
    """Returns the ids of the connections that gateways have to a store."""
    lines = store.ask("CLIENT", "LIST").splitlines()
    return {re.match(r"id=(\d+)", line).group(1) for line in lines if "cmd=client" not in line}


def read_anew(gateway, change):
    """Changes the config of a gateway, and waits until it is in force."""
    before, text = gateway.generation(), gateway.file.read_text()
    changed = change(text)
    assert changed != text
    gateway.file.write_text(changed)
    gateway.signal(signal.SIGHUP)
    until("the config is in force", lambda: gateway.generation() > before)


@scenario
async def reloads(program):
    """Configs are read anew a hundred times, under load: each gateway keeps its one connection. Other settings of the store make another one."""
    backend = await Backend().start()
    with Fleet() as fleet:
        store = fleet.store(program)
        gateways = fleet.gateways(2, settings(store), {"a": rate(1_000_000, "60s")}, backend)
        before = connections(store)
        assert len(before) == 2, before
        ports = [it.port for it in gateways]
        running = asyncio.gather(*(Load().run(ports, "/a", seconds=8, connections=2) for _ in range(2)))
        for number in range(100):
            for gateway in gateways:
                await asyncio.to_thread(read_anew, gateway, lambda text: text + f"# {number}\n")
        loads = await running
        assert all(set(load.statuses) == {204} for load in loads), [load.statuses for load in loads]
        assert connections(store) == before, (before, connections(store))
        for gateway in gateways:
            await asyncio.to_thread(read_anew, gateway, lambda text: text.replace("timeout: 2000ms", "timeout: 1999ms"))
        assert (await Load().run(ports, "/a", requests=100))[204] >= 100
        await asyncio.to_thread(until, "the old connections are closed", lambda: len(connections(store)) == 2)
        assert not connections(store) & before
        return f"{gateways[0].generation()} generations"


@scenario
async def passwords(program):
    """A user gets a second password, the gateways get it, and the first one ends: no request notices."""
    backend = await Backend().start()
    with Fleet() as fleet:
        store = fleet.store(program)
        store.ask("ACL", "SETUSER", "entrada", "reset", "on", ">first", "~entrada:*", "+@all")
        word = fleet.folder / "word"
        word.write_text("first")
        login = ', username: entrada, password: "{{word}}"'
        more = f"named-values: {{ word: {{ file: {word}, secret: true }} }}"
        gateways = fleet.gateways(2, settings(store, login), {"a": rate(1_000_000, "60s")}, backend, more=more)
        ports = [it.port for it in gateways]
        running = asyncio.gather(Load().run(ports, "/a", seconds=4, connections=4))
        store.ask("ACL", "SETUSER", "entrada", ">second")
        word.write_text("second")
        for gateway in gateways:
            await asyncio.to_thread(read_anew, gateway, lambda text: text + "# another password\n")
        store.ask("ACL", "SETUSER", "entrada", "<first")
        (load,) = await running
        assert set(load.statuses) == {204}, load.statuses
        # Whoever is connected stays so: only new connections show which password is used.
        store.ask("CLIENT", "KILL", "USER", "entrada")
        await asyncio.to_thread(until, "the store is used again", lambda: all(it.is_up() and it.status()["connected"] for it in gateways))
        after = await Load().run(ports, "/a", requests=100)
        assert after[503] == 0 and after[204] >= 100, after.statuses


@scenario
async def tokens(program):
    """A token of the gateway's identity is the password; the next one is sent on the open connection before it ends."""
    if not FAKETIME.exists():
        return "there is no libfaketime (package faketime)"
    backend = await Backend().start()
    client, word = "00001111-aaaa-2222-bbbb-3333cccc4444", "hunter2-of-the-test"
    with Fleet() as fleet:
        clock = fleet.folder / "clock"
        clock.write_text("+0")
        # All clocks: tokens are renewed by the one that nobody sets.
        moved = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_CACHE_DURATION": "1"}
        port = free_port()
        tenant = Process([ENTRADA, "dev-tenant", "--address", f"127.0.0.1:{port}", "--format", "json"], fleet.name("tenant"), moved)
        fleet.add(tenant)
        until("the tenant is there", lambda: '"base_url"' in tenant.log())
        facts = json.loads(next(line for line in tenant.log().splitlines() if '"base_url"' in line))

        def post(path, body):
            asked = urllib.request.Request(f"{facts['base_url']}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.read().decode()

        with urllib.request.urlopen(f"{facts['base_url']}/dev/apps", timeout=10) as answer:
            app = next(app for app in json.load(answer) if app["client_id"] == client)
        post("/dev/apps", app | {"secrets": [word]})
        store = fleet.store(program)
        # Whatever the token is: which one it will be is not known here.
        store.ask("ACL", "SETUSER", "default", "-auth")
        made = post("/dev/token?format=text", {"app": client, "audience": "https://redis.azure.com", "force": True})
        user = json.loads(urlsafe_b64decode(made.split(".")[1] + "=="))["oid"]
        store.ask("ACL", "SETUSER", user, "reset", "on", "nopass", "~entrada:*", "+@all")
        more = (
            f'tenants: {{ contoso: {{ id: {facts["tenant_id"]}, authority: "{facts["base_url"]}" }} }}\n'
            f'named-values: {{ word: {{ value: "{word}", secret: true }} }}\n'
            f'credentials: {{ pod: {{ tenant: contoso, client-id: {client}, client-secret: "{{{{word}}}}" }} }}'
        )
        (gateway,) = fleet.gateways(1, settings(store, ", credential: pod"), {"a": rate(1_000_000, "1h")}, backend, more=more, environment=moved)

        def logins():
            return int(re.search(r"cmdstat_auth:calls=(\d+)", store.ask("INFO", "commandstats")).group(1))

        held, before = connections(store), logins()
        assert len(held) == 1 and before >= 1 and f"user={user}" in store.ask("CLIENT", "LIST"), store.ask("CLIENT", "LIST")
        clock.write_text("+3400s")
        await asyncio.to_thread(until, "the next token is sent", lambda: logins() > before)
        load = await Load().run([gateway.port], "/a", requests=100)
        assert set(load.statuses) == {204} and connections(store) == held, load.statuses
        return f"{logins() - before} renewed"


@scenario
async def skewed(program):
    """The clock of one gateway is an hour ahead, and that of another one an hour behind: the server's counts."""
    if not FAKETIME.exists():
        return "there is no libfaketime (package faketime)"
    backend = await Backend().start()
    with Fleet() as fleet:
        store = fleet.store(program)
        moved = [{"LD_PRELOAD": str(FAKETIME), "DONT_FAKE_MONOTONIC": "1", "FAKETIME": by} for by in ["+1h", "-1h"]]
        policies = {"a": rate(200, "3s"), "q": f'quota-by-key: {{ calls: 100, renewal-period: 365d, counter-key: "{KEY}", store: redis }}'}
        gateways = fleet.gateways(1, settings(store), policies, backend)
        gateways += [fleet.gateways(1, settings(store), policies, backend, environment=it)[0] for it in moved]
        ports = [it.port for it in gateways]
        hours = [int(re.search(r'"timestamp":"[\d-]+T(\d+)', it.log()).group(1)) for it in gateways]
        assert [(hour - hours[0]) % 24 for hour in hours] in ([0, 1, 23], [0, 1, 22], [0, 2, 23], [0, 2, 0]), hours
        load = await Load().run(ports, "/a", seconds=8)
        most = never_more_than(200, 3, backend.arrivals)
        passed = len(backend.arrivals)
        assert load[503] == 0 and 3 * 200 >= passed >= 2 * 200, (load.statuses, passed)
        each = [await Load().run([port], "/q", requests=60, connections=4) for port in ports]
        assert sum(load[204] for load in each) == 100, [load.statuses for load in each]
        return f"{passed} passed, {most} at most in a period"


@scenario
async def names(program):
    """Nothing in the store's dump tells who calls; two routes with the same key count apart, and two gateways together, to the last call."""
    backend = await Backend().start()
    caller = "nia.okafor@contoso.example"
    with Fleet() as fleet:
        store = fleet.store(program)
        limits = [
            rate(50, "1h"),
            f'quota-by-key: {{ calls: 70, renewal-period: 30d, counter-key: "{KEY}", store: redis }}',
            f'limit-concurrency: {{ max-count: 8, key: "{KEY}", store: redis }}',
        ]
        policies = {"first": limits[0], "second": limits[0], "third": limits[1], "fourth": limits[1], "fifth": limits[2]}
        gateways = fleet.gateways(2, settings(store), policies, backend)
        ports = [it.port for it in gateways]
        for path, passed in [("first", 50), ("second", 50), ("third", 70), ("fourth", 70)]:
            load = await Load().run(ports, f"/{path}", caller, requests=200)
            assert load[204] == passed and load[503] == 0, (path, load.statuses)
        backend.drips = 2
        held = asyncio.gather(Load().run(ports, "/fifth", caller, requests=4, connections=1))
        await asyncio.to_thread(until, "calls are under way", lambda: len(store.ask("KEYS", "*")) == 5)
        store.ask("SAVE")
        dump = (store.folder / "dump.rdb").read_bytes()
        for part in [b"nia", b"okafor", b"contoso", b"first", b"third", b"a key secret"]:
            assert part not in dump, part
        assert dump.count(b"entrada:1:{") == 5, dump.count(b"entrada:1:{")
        await held
