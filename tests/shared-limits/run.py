#!/usr/bin/env python3
"""Limits that several gateways share, against real servers: exact whatever they do, and with the stated outcome when they fail.

    tests/shared-limits/run.py [--server PROGRAM]… [--long REQUESTS [--calls CALLS]] [NAME…]

Everything listens on loopback, every wait is bounded, and only processes that this started are ended. `--long 1000000` sends so many requests
to one limit; with 2,000 calls most of them are refused without a question, and with `--calls 50000` most ask the store. The last line is `N passed, N failed`; the exit code is 0 only when nothing failed.
"""

import argparse
import asyncio
import re
import shutil
import signal
import subprocess
import sys
import time

import clusters  # noqa: F401 - its scenarios
import scripts
import upkeep  # noqa: F401
from common import KEY, SCENARIOS, SLACK, TIMEOUT, never_more_than, rate, scenario, settings
from fleet import Backend, Fleet, Load, until


@scenario
async def arithmetic(program):
    """The scripts by themselves, on a clock that is moved: compared with lists of all calls."""
    with Fleet() as fleet:
        store = fleet.store(program)
        for seed in range(15):
            scripts.rates(store, seed)
            scripts.clocks(store, seed)
            scripts.quotas(store, seed)
            scripts.permits(store, seed)


@scenario
async def exact(program):
    """Four gateways, 64 connections: never more calls in any period, and not many fewer."""
    backend = await Backend().start()
    with Fleet() as fleet:
        store = fleet.store(program)
        gateways = fleet.gateways(4, settings(store), {"a": rate(200, "3s")}, backend)
        load = await Load().run([it.port for it in gateways], "/a", seconds=8)
        most = never_more_than(200, 3, backend.arrivals)
        assert load[200] + load[204] == len(backend.arrivals) and load[503] == 0, load.statuses
        assert 3 * 200 >= len(backend.arrivals) >= 2 * 200, len(backend.arrivals)
        keys = store.ask("KEYS", "*")
        assert len(keys) == 1 and re.fullmatch(r"entrada:1:\{[\w-]{22}\}:r", keys[0]), keys
        return f"{len(backend.arrivals)} of {sum(load.statuses.values())} passed, {most} at most in a period"


@scenario
async def leases(program):
    """The same with calls that gateways take ahead."""
    backend = await Backend().start()
    with Fleet() as fleet:
        store = fleet.store(program)
        gateways = fleet.gateways(4, settings(store, ", lease: 5"), {"a": rate(400, "3s")}, backend)
        load = await Load().run([it.port for it in gateways], "/a", seconds=8)
        most = never_more_than(400, 3, backend.arrivals)
        assert load[503] == 0 and len(backend.arrivals) >= 400, (load.statuses, len(backend.arrivals))
        return f"{len(backend.arrivals)} passed, {most} at most in a period"


@scenario
async def quota(program):
    """A quota is used up to the last call, by whichever gateway, and survives a restart of all of them."""
    backend = await Backend().start()
    policy = f'quota-by-key: {{ calls: 300, renewal-period: 30d, counter-key: "{KEY}", store: redis }}'
    with Fleet() as fleet:
        store = fleet.store(program)
        gateways = fleet.gateways(4, settings(store), {"a": policy}, backend)
        load = await Load().run([it.port for it in gateways], "/a", requests=1200, connections=8)
        assert (load[204], load[403]) == (300, load[403]) and len(backend.arrivals) == 300, load.statuses
        gateways[0].kill()
        gateways[0].start()
        again = await Load().run([gateways[0].port], "/a", requests=16)
        assert again[204] == 0 and again[403] == 16, again.statuses


@scenario
async def concurrency(program):
    """Never more calls at once; the permits of a gateway that was killed end, and all others are given back."""
    backend = await Backend().start()
    backend.takes = 0.05
    policy = f'limit-concurrency: {{ max-count: 8, key: "{KEY}", store: redis }}'
    with Fleet() as fleet:
        store = fleet.store(program)
        gateways = fleet.gateways(4, settings(store, ", permit-timeout: 10s"), {"a": policy}, backend)
        ports = [it.port for it in gateways]
        load = await Load().run(ports, "/a", seconds=3, connections=4)
        assert 4 <= backend.most <= 8 and load[503] == 0, (backend.most, load.statuses)
        await asyncio.to_thread(until, "all permits are given back", lambda: permits(store) == 0)

        # A call whose body outlives its permit keeps it; one whose gateway is gone does not.
        backend.takes, backend.drips = 0, 14
        long = asyncio.gather(*(Load().run([port], "/a", requests=1, connections=1) for port in ports[:2]))
        await asyncio.to_thread(until, "two calls are under way", lambda: permits(store) == 2)
        gateways[0].kill()
        await asyncio.sleep(11.5)
        await asyncio.to_thread(until, "the permit of the killed one has ended, and that of the other is kept", lambda: permits(store) == 1)
        # Its client has sent the request again to nobody: end that, too.
        long.cancel()


def permits(store):
    """Returns the number of permits that have not ended."""
    seconds, microseconds = store.ask("TIME")
    now = int(seconds) * 1000 + int(microseconds) // 1000
    return sum(store.ask("ZCOUNT", key, now, "+inf") for key in store.ask("KEYS", "*"))


@scenario
async def failures(program):
    """Killed, paused, slow, full, a replica: the stated outcome within the deadline, and back by itself."""
    backend = await Backend().start()
    notes = []
    with Fleet() as fleet:
        store = fleet.store(program)
        policies = {"refuse": rate(1_000_000, "60s"), "local": rate(1_000_000, "60s", ", on-store-failure: local")}
        gateways = fleet.gateways(2, settings(store, timeout=TIMEOUT), policies, backend)
        ports = [it.port for it in gateways]

        def restart():
            store.kill()
            return store.start

        def pause():
            store.signal(signal.SIGSTOP)
            return lambda: store.signal(signal.SIGCONT)

        def slow():
            store.ask("CLIENT", "PAUSE", "2000", "ALL")
            return lambda: None

        def fill():
            store.ask("CONFIG", "SET", "maxmemory", "1")
            return lambda: store.ask("CONFIG", "SET", "maxmemory", "0")

        def follow():
            store.ask("REPLICAOF", "127.0.0.1", "1")
            return lambda: store.ask("REPLICAOF", "NO", "ONE")

        def lock_out():
            store.ask("CONFIG", "SET", "requirepass", "hunter2")
            store.password = "hunter2"
            # Connections that were made before go on without the password: they are closed.
            store.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

            def let_in():
                store.ask("CONFIG", "SET", "requirepass", "")
                store.password = None

            return let_in

        for name, fault in [("killed", restart), ("paused", pause), ("slow", slow), ("full", fill), ("replica", follow), ("locked", lock_out)]:
            mend = await asyncio.to_thread(fault)
            refused = await Load().run(ports, "/refuse", seconds=1.0, connections=8)
            local = await Load().run(ports, "/local", seconds=0.7, connections=8)
            assert refused[503] > 0 and set(refused.statuses) <= {503, 204}, (name, refused.statuses)
            assert set(local.statuses) == {204}, (name, local.statuses)
            longest = max(refused.longest, local.longest)
            assert longest < TIMEOUT + SLACK, (name, longest)
            assert not any(it.is_up() for it in gateways), name
            await asyncio.to_thread(mend)
            back = await asyncio.to_thread(until, f"{name}: the store is used again", lambda: all(it.is_up() for it in gateways))
            after = await Load().run(ports, "/refuse", requests=200)
            assert after[204] >= 200 and after[503] == 0, (name, after.statuses)
            notes.append(f"{name}: {longest * 1000:.0f} ms at most, back after {back:.1f} s")
        log = gateways[0].log()
        assert log.count("the limit store fails") == 6 and log.count("the limit store answers again") == 6, log[-3000:]
    return "; ".join(notes)


@scenario
async def partition(program):
    """One of two gateways cannot reach the store, silently: the stated outcome within the deadline; what arrives late admits nobody."""
    backend = await Backend().start()
    notes = []
    with Fleet() as fleet:
        store = fleet.store(program)
        link = fleet.link(store)
        policies = {
            "refuse": rate(1_000_000, "60s"),
            "local": rate(1_000_000, "60s", ", on-store-failure: local"),
            "few": rate(100, "1h"),
        }
        (apart,) = fleet.gateways(1, settings(link, timeout=TIMEOUT), policies, backend)
        (other,) = fleet.gateways(1, settings(store, timeout=2.0), policies, backend)
        passed = (await Load().run([apart.port], "/few", requests=20))[204]
        for name, ways in [("questions", [link.there]), ("answers", [link.back]), ("both", [link.there, link.back])]:
            link.cut(*ways)
            refused, few, local, elsewhere = await asyncio.gather(
                Load().run([apart.port], "/refuse", seconds=1.0, connections=8),
                Load().run([apart.port], "/few", seconds=1.0, connections=4),
                Load().run([apart.port], "/local", seconds=1.0, connections=4),
                Load().run([other.port], "/refuse", seconds=1.0, connections=2),
            )
            passed += few[204]
            assert set(refused.statuses) == {503} and set(local.statuses) == {204}, (name, refused.statuses, local.statuses)
            assert set(few.statuses) == {503} and set(elsewhere.statuses) == {204}, (name, few.statuses, elsewhere.statuses)
            longest = max(refused.longest, few.longest, local.longest)
            assert longest < TIMEOUT + SLACK, (name, longest)
            assert not apart.is_up() and other.is_up(), name
            link.mend()
            back = await asyncio.to_thread(until, f"{name}: the store is used again", apart.is_up)
            after = await Load().run([apart.port], "/refuse", requests=200)
            assert after[204] >= 200 and after[503] == 0, (name, after.statuses)
            notes.append(f"{name}: {longest * 1000:.0f} ms at most, back after {back:.1f} s")
        # Calls whose answers were lost may have counted; none was admitted for that, and both gateways agree on what is left.
        for port in [apart.port, other.port]:
            passed += (await Load().run([port], "/few", requests=200))[204]
        assert passed <= 100, passed
        notes.append(f"{passed} of 100 passed")
    return "; ".join(notes)


@scenario
async def forgetful(program):
    """A store that forgets its scripts or all keys is no failure."""
    backend = await Backend().start()
    with Fleet() as fleet:
        store = fleet.store(program)
        gateways = fleet.gateways(2, settings(store), {"a": rate(1_000_000, "60s")}, backend)
        running = asyncio.gather(Load().run([it.port for it in gateways], "/a", seconds=2))
        for command in [("SCRIPT", "FLUSH"), ("FLUSHALL",)] * 10:
            await asyncio.to_thread(store.ask, *command)
            await asyncio.sleep(0.08)
        (load,) = await running
        assert set(load.statuses) == {204}, load.statuses
        assert all(it.status()["connections"] == 1 for it in gateways)


async def long(program, requests, calls):
    """Very many requests to one limit."""
    backend = await Backend().start()
    with Fleet() as fleet:
        store = fleet.store(program)
        # Time enough on any machine: what matters is the number.
        gateways = fleet.gateways(4, settings(store, timeout=5.0), {"a": rate(calls, "10s")}, backend)
        began = time.monotonic()
        load = await Load().run([it.port for it in gateways], "/a", requests=requests, connections=64)
        took = time.monotonic() - began
        most = never_more_than(calls, 10, backend.arrivals)
        total, unanswered = sum(load.statuses.values()), load[503]
        asked = sum(it.asked() for it in gateways)
        assert set(load.statuses) <= {204, 429, 503} and unanswered < total / 1000, load.statuses
        return (
            f"{total} requests in {took:.0f} s, {asked} questions, {len(backend.arrivals)} passed, {most} at most in a period, "
            f"{unanswered} not decided in time, the slowest {load.longest:.1f} s"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", help="a server's program [default: redis-server, and valkey-server if there is one]")
    parser.add_argument("--long", type=int, metavar="REQUESTS", help="send so many requests to one limit, and nothing else")
    parser.add_argument("--calls", type=int, default=2000, help="of how many calls in 10 s that limit is [default: 2000]")
    parser.add_argument("names", nargs="*", help="the scenarios to run [default: all]")
    arguments = parser.parse_args()
    servers = arguments.server or [it for it in ["redis-server", "valkey-server"] if shutil.which(it)]
    if not servers:
        sys.exit("there is no redis-server and no valkey-server")
    if len(servers) > 1:
        sys.exit(side_by_side(servers))
    passed = failed = 0
    program = shutil.which(servers[0]) or servers[0]
    print(subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()[:40], flush=True)
    runs = {"long": lambda program: long(program, arguments.long, arguments.calls)} if arguments.long else SCENARIOS
    for name, run in runs.items():
        if arguments.names and name not in arguments.names:
            continue
        began = time.monotonic()
        try:
            note = asyncio.run(run(program)) or ""
            passed += 1
            print(f"  ok    {name}  {note}".rstrip(), f"({time.monotonic() - began:.1f}s)", flush=True)
        except Exception as error:  # noqa: BLE001 - a scenario that fails must not end the others
            failed += 1
            print(f"  FAIL  {name}: {type(error).__name__}: {error}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def side_by_side(servers):
    """Runs the same for each server at once: most of the time goes by in waiting."""
    others = [argument for argument in sys.argv[1:] if argument not in servers and argument != "--server"]
    runs = [
        subprocess.Popen([sys.executable, __file__, "--server", server, *others], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for server in servers
    ]
    outputs = [run.communicate()[0] for run in runs]
    totals = [[int(number) for number in re.findall(r"(\d+) (?:passed|failed)", output.splitlines()[-1])] for output in outputs]
    for output in outputs:
        print("\n".join(output.splitlines()[:-1]))
    print(f"{sum(passed for passed, _ in totals)} passed, {sum(failed for _, failed in totals)} failed")
    return int(any(run.returncode for run in runs))


if __name__ == "__main__":
    main()
