#!/usr/bin/env python3
"""Builds the binary that is shipped: the profile `dist`, optimised by what a load has run of it.

    benches/dist.py [--target-dir FOLDER] [--requests COUNT] [--without-bolt]

A build that counts, a load on loopback (requests without a policy, with a token, with more fields, over HTTP/2 and TLS, and decisions for
another proxy), and a build that uses the counts, in which the compiler decides what to inline and what to keep together. Then BOLT counts
the blocks of that binary under the same load, and puts those that run side by side, away from those that do not. Each build takes some
six minutes, the rest two.

`llvm-profdata` and `llvm-strip` come with the component `llvm-tools` of the same toolchain (`rustup component add llvm-tools`);
`llvm-bolt` is in Debian's package `bolt-22` (any from 15 on will do), nginx and h2load in `nginx-light` and `nghttp2-client`;
`cryptography` and `grpcio` are packages of Python. Counts belong to one version of the compiler and of the sources: they are made anew
each time, and kept nowhere.

The binary is at FOLDER/dist/entrada.
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / "benches/side-by-side")]

import callgrind
import decisions
import material
import peers

# The config, the client, and the additional fields.
LOADS = [
    ("plain", "http1", {}),
    ("plain", "http1", callgrind.EIGHT_MORE),
    ("token", "http1", {}),
    ("token", "http1", callgrind.EIGHT_MORE),
    ("token", "http2", {}),
    ("tls", "tls", {}),
]
# The tokens of the load in which every one is new.
NEW_TOKENS = 3_000


# How BOLT lays out the code: blocks in the order in which they follow each other, what never ran elsewhere, functions beside those that
# call them.
LAYOUT = [
    *("-reorder-blocks=ext-tsp", "-reorder-functions=cdsort", "-split-functions", "-split-all-cold", "-split-eh"),
    *("-icf=1", "-peepholes=all", "-plt=hot", "-inline-small-functions"),
]


def of_toolchain(name: str) -> Path:
    """A tool of the toolchain that builds."""
    told = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    host = next(line.split()[1] for line in told.splitlines() if line.startswith("host:"))
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    tool = Path(sysroot) / "lib/rustlib" / host / "bin" / name
    if not tool.exists():
        raise SystemExit(f"{tool} is missing: rustup component add llvm-tools")
    return tool


def of_bolt(name: str) -> str:
    """A tool of BOLT, of the newest version that is installed."""
    for version in ("", *(f"-{number}" for number in range(40, 14, -1))):
        if tool := shutil.which(name + version):
            return tool
    raise SystemExit(f"{name} is missing (Debian: bolt-22); --without-bolt does without it")


def build(target: Path, flags: str) -> Path:
    """Builds the binary with these flags of the compiler, and with its symbols, which BOLT needs."""
    environment = os.environ | {"RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(target), "CARGO_PROFILE_DIST_STRIP": "none"}
    # Build scripts count, too, and nobody wants to know what.
    environment["LLVM_PROFILE_FILE"] = os.devnull
    subprocess.run(["cargo", "build", "--locked", "--profile", "dist", "--bin", "entrada"], cwd=ROOT, env=environment, check=True)
    return target / "dist/entrada"


def end(server: subprocess.Popen) -> None:
    """Ends a server of its own accord, since the counts are written at the end."""
    server.send_signal(signal.SIGTERM)
    server.wait(60)


def decide(binary: Path, folder: Path, questions: int) -> None:
    """Lets the binary answer another proxy, over HTTP and over gRPC."""
    with decisions.tenant(str(binary)) as (facts, token):
        for dialect, asks in (("nginx", decisions.Http), ("envoy-grpc", decisions.Many)):
            own = folder / dialect
            own.mkdir()
            server, proxy = decisions.start([str(binary)], own, dialect, asks, facts, token)
            try:
                for _ in range(questions // getattr(asks, "each", 1)):
                    assert proxy.ask(), "a good request was refused"
                proxy.close()
                end(server)
            finally:
                server.kill()
                server.wait()
            print(f"decisions, {dialect}: carried", flush=True)


def run(binary: Path, folder: Path, backend: int, requests: int) -> None:
    """Lets the binary carry each of the loads."""
    token, *further = (folder / "many.txt").read_text().split()
    loads = [(*load, [], requests // len(LOADS)) for load in LOADS] + [("token", "http1", {}, further, NEW_TOKENS)]
    for index, (config, client, more, tokens, times) in enumerate(loads):
        own = folder / str(index)
        own.mkdir()
        own.chmod(0o777)
        for file in folder.glob("tls.*"):
            shutil.copy(file, own)
        port = callgrind.free_port()
        command = peers.entrada(peers.Setup(own, port, backend, 1, "", str(binary)), config)
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            load = callgrind.Load(port, token, more, client, tokens)
            callgrind.connect(port).close()
            load.warm_up()
            load.send(times)
            load.close()
            end(server)
        finally:
            server.kill()
            server.wait()
        print(f"{config}, {client}{', more fields' if more else ''}{', new tokens' if tokens else ''}: carried", flush=True)


def load(binary: Path, requests: int) -> None:
    """Lets the binary carry all loads, and answer."""
    with tempfile.TemporaryDirectory(prefix="entrada-load-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port = callgrind.free_port()
        material.MANY = NEW_TOKENS
        material.make(folder, f"http://127.0.0.1:{port}", 0, os.cpu_count())
        backend = subprocess.Popen(peers.backend(peers.Setup(folder, port, port, 1, "", "")), stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            callgrind.connect(port).close()
            run(binary, folder, port, requests)
            decide(binary, folder, requests // 10)
        finally:
            os.killpg(backend.pid, signal.SIGTERM)


def merge(command: list[str], counts: Path, pattern: str) -> None:
    """Puts together what several processes have counted."""
    files = sorted(counts.glob(pattern))
    if not files:
        raise SystemExit("the binary that counts has written no counts")
    subprocess.run([*command, *map(str, files)], check=True, stdout=subprocess.DEVNULL)


def lay_out(binary: Path, counts: Path, requests: int) -> None:
    """Orders the blocks of the binary by what a load runs of them."""
    bolt, counting, merged = of_bolt("llvm-bolt"), binary.with_name("entrada-counting"), counts / "all"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    told = [f"--instrumentation-file={counts}/bolt", "--instrumentation-file-append-pid"]
    subprocess.run([bolt, str(binary), "-instrument", "-o", str(counting), *told], **quiet)
    load(counting, requests)
    counting.unlink()
    merge([of_bolt("merge-fdata"), "-o", str(merged)], counts, "bolt.*")
    ordered = binary.with_name("entrada-ordered")
    subprocess.run([bolt, str(binary), f"-data={merged}", "-o", str(ordered), *LAYOUT], **quiet)
    ordered.replace(binary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target-dir", type=Path, default=ROOT / "target", help="where the binaries are built")
    parser.add_argument("--counting", type=Path, help="a counting binary that was built before")
    parser.add_argument("--requests", type=int, default=60_000, help="the number of requests of the load")
    parser.add_argument("--without-bolt", action="store_true", help="leave the blocks as the compiler ordered them")
    parser.add_argument("--with-symbols", action="store_true", help="keep the names of functions, for a profile")
    options = parser.parse_args()
    profdata, strip, target = of_toolchain("llvm-profdata"), of_toolchain("llvm-strip"), options.target_dir.resolve()
    if not callgrind.installed("nginx", "h2load"):
        raise SystemExit("nginx or h2load is missing (Debian: nginx-light nghttp2-client)")
    if not options.without_bolt:
        of_bolt("llvm-bolt")
    with tempfile.TemporaryDirectory(prefix="entrada-dist-") as name:
        counts = Path(name)
        # A worker that is not root writes there.
        counts.chmod(0o777)
        counting = options.counting or build(target / "counting", "-Cprofile-generate")
        os.environ["LLVM_PROFILE_FILE"] = f"{counts}/%p.profraw"
        load(counting, options.requests)
        merged = counts / "all.profdata"
        merge([str(profdata), "merge", "--output", str(merged)], counts, "*.profraw")
        # Named by its content: cargo builds dependencies anew for other flags alone.
        named = target / f"entrada-{hashlib.sha256(merged.read_bytes()).hexdigest()[:16]}.profdata"
        for old in target.glob("entrada-*.profdata"):
            old.unlink()
        merged = Path(shutil.move(merged, named))
        # BOLT moves what it knows the references to.
        binary = build(target, f"-Cprofile-use={merged} -Clink-arg=-Wl,--emit-relocs")
        if not options.without_bolt:
            lay_out(binary, counts, options.requests // 2)
    if not options.with_symbols:
        subprocess.run([str(strip), "--strip-all", str(binary)], check=True)
    print(binary)


if __name__ == "__main__":
    main()
