"""Several servers: sentinels, clusters, and successors of servers that are gone."""

import asyncio

from common import SLACK, rate, scenario
from fleet import Backend, Fleet, Load, until


@scenario
async def sentinel(program):
    """The primary is killed, and the one that sentinels name next is used."""
    backend = await Backend().start()
    with Fleet() as fleet:
        primary = fleet.store(program)
        replica = fleet.store(program, "--replicaof", "127.0.0.1", primary.port)
        folder = fleet.name("sentinel")
        folder.mkdir()
        (folder / "sentinel.conf").write_text(
            f"sentinel monitor limits 127.0.0.1 {primary.port} 1\nsentinel down-after-milliseconds limits 500\n"
            "sentinel failover-timeout limits 3000\n"
        )
        watching = fleet.store(program, folder / "sentinel.conf", "--sentinel")
        until("the sentinel knows the replica", lambda: len(watching.ask("SENTINEL", "replicas", "limits")) == 1)
        until("the replica follows", lambda: "master_link_status:up" in replica.ask("INFO", "replication"))
        redis = f'url: "redis://127.0.0.1:{watching.port}", mode: sentinel, name: limits, timeout: 150ms'
        gateways = fleet.gateways(2, redis, {"a": rate(1_000_000, "60s"), "few": rate(5, "60s")}, backend)
        ports = [it.port for it in gateways]
        assert (await Load().run(ports, "/few", requests=32))[204] == 5
        primary.kill()
        gone = await Load().run(ports, "/a", seconds=0.5)
        assert gone[503] > 0, gone.statuses
        back = await asyncio.to_thread(until, "the successor is used", lambda: all(it.is_up() for it in gateways))
        after = await Load().run(ports, "/few", requests=32)
        assert after[204] <= 5 and after[503] == 0, after.statuses
        assert replica.ask("ROLE")[0] == "master"
        return f"back after {back:.1f} s, {after[204]} calls were forgotten"


@scenario
async def cluster(program):
    """A cluster of two nodes: keys of both, and a slot that moves."""
    backend = await Backend().start()
    with Fleet() as fleet:
        nodes = [fleet.store(program, "--cluster-enabled", "yes") for _ in range(2)]
        nodes[0].ask("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        nodes[1].ask("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        nodes[1].ask("CLUSTER", "SET-CONFIG-EPOCH", 2)
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
        until("the cluster is complete", lambda: all("cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes))
        redis = f'url: "redis://127.0.0.1:{nodes[0].port}", mode: cluster, timeout: 300ms'
        gateways = fleet.gateways(2, redis, {"a": rate(5, "60s")}, backend)
        ports = [it.port for it in gateways]
        for key in range(40):
            load = await Load().run(ports, "/a", f"caller-{key}", requests=8, connections=1)
            assert (load[204], load[429]) == (5, 3), (key, load.statuses)
        held = [node.ask("KEYS", "*") for node in nodes]
        assert all(held), held
        # The owner changes, and the gateways find out by themselves.
        key = held[0][0]
        slot = nodes[0].ask("CLUSTER", "KEYSLOT", key)
        ids = [node.ask("CLUSTER", "MYID") for node in nodes]
        for moved in held[0]:
            if nodes[0].ask("CLUSTER", "KEYSLOT", moved) == slot:
                nodes[0].ask("DEL", moved)
        nodes[1].ask("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        nodes[0].ask("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        # For a second a gateway believes that a limit is reached.
        await asyncio.sleep(1.1)
        passed = 0
        for key in range(40):
            load = await Load().run(ports, "/a", f"caller-{key}", requests=8, connections=1)
            assert load[503] == 0 and load[204] in (0, 5), (key, load.statuses)
            passed += load[204]
        assert passed % 5 == 0 and passed >= 5, "those whose key was removed begin anew"


@scenario
async def lone_node(program):
    """A cluster of one node, in which every key is."""
    backend = await Backend().start()
    with Fleet() as fleet:
        node = fleet.store(program, "--cluster-enabled", "yes")
        redis = f'url: "redis://127.0.0.1:{node.port}", mode: cluster, timeout: 300ms'
        node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until("the cluster is complete", lambda: "cluster_state:ok" in node.ask("CLUSTER", "INFO"))
        gateways = fleet.gateways(2, redis, {"a": rate(5, "60s")}, backend)
        for key in range(10):
            load = await Load().run([it.port for it in gateways], "/a", f"caller-{key}", requests=8, connections=1)
            assert (load[204], load[429]) == (5, 3), (key, load.statuses)


@scenario
async def succession(program):
    """A node of a cluster is killed: its callers have the stated outcome, others none, until its replica has taken over."""
    backend = await Backend().start()
    with Fleet() as fleet:
        timing = ["--cluster-node-timeout", 1000, "--cluster-replica-validity-factor", 0]
        nodes = [fleet.store(program, "--cluster-enabled", "yes", *timing) for _ in range(4)]
        for number, (first, last) in enumerate([(0, 5460), (5461, 10922), (10923, 16383)]):
            nodes[number].ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            nodes[number].ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        first = nodes[0].ask("CLUSTER", "MYID")
        until("the replica knows its primary", lambda: first in nodes[3].ask("CLUSTER", "NODES"))
        nodes[3].ask("CLUSTER", "REPLICATE", first)
        until("the replica follows", lambda: "master_link_status:up" in nodes[3].ask("INFO", "replication"))
        until("all nodes know the replica", lambda: all(node.ask("CLUSTER", "NODES").count(" slave") + node.ask("CLUSTER", "NODES").count(",slave") for node in nodes[:3]))
        until("the cluster is complete", lambda: all("cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes))
        seeds = ", ".join(f'"127.0.0.1:{node.port}"' for node in nodes[1:])
        redis = f'url: "redis://127.0.0.1:{nodes[0].port}", nodes: [ {seeds} ], mode: cluster, timeout: 300ms'
        gateways = fleet.gateways(2, redis, {"a": rate(5, "1h"), "many": rate(1_000_000, "1h")}, backend)
        ports = [it.port for it in gateways]
        for key in range(30):
            load = await Load().run(ports, "/a", f"caller-{key}", requests=8, connections=1)
            assert (load[204], load[429]) == (5, 3), (key, load.statuses)
        assert all(node.ask("KEYS", "*") for node in nodes), "keys on each"
        nodes[0].kill()
        gone = await asyncio.gather(*(Load().run(ports, "/many", f"caller-{key}", seconds=0.5, connections=1) for key in range(12)))
        assert any(load[503] for load in gone), [load.statuses for load in gone]
        longest = max(load.longest for load in gone)
        assert longest < 0.3 + SLACK, longest
        until("the replica has taken over", lambda: nodes[3].ask("ROLE")[0] == "master")

        async def served():
            loads = [await Load().run(ports, "/many", f"caller-{key}", requests=2, connections=1) for key in range(30)]
            return all(set(load.statuses) == {204} for load in loads)

        ends = asyncio.get_running_loop().time() + 20
        while not await served():
            assert asyncio.get_running_loop().time() < ends, [it.status() for it in gateways]
            await asyncio.sleep(0.2)
        passed = 0
        for key in range(30):
            load = await Load().run(ports, "/a", f"caller-{key}", requests=8, connections=1)
            assert load[503] == 0, (key, load.statuses)
            passed += load[204]
        assert passed <= 5, "what the replica had is not forgotten"
        return f"{longest * 1000:.0f} ms at most, {passed} calls were forgotten"
