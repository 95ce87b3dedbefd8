#!/usr/bin/env python3
"""Builds the binary that is shipped: the profile `dist`, optimised by what a load has run of it.

    benches/dist.py [--target-dir FOLDER] [--requests COUNT]

Three steps: a build that counts, a load on loopback (requests without a policy, with a token, with more fields, over HTTP/2 and TLS, and
decisions for another proxy), and a build that uses the counts. Each build takes some ten minutes. `llvm-profdata` comes with the component
`llvm-tools` of the same toolchain (`rustup component add llvm-tools`), nginx-light and nghttp2-client from Debian, `cryptography` and
`grpcio` from Python. The counts belong to one version of the compiler and of the sources: they are made anew each time, and kept nowhere.

The binary is at FOLDER/dist/entrada.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benches/side-by-side"))

sys.path.insert(0, str(ROOT / "benches"))

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


def profdata() -> Path:
    """The tool that merges counts, of the toolchain that builds."""
    told = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    host = next(line.split()[1] for line in told.splitlines() if line.startswith("host:"))
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    tool = Path(sysroot) / "lib/rustlib" / host / "bin/llvm-profdata"
    if not tool.exists():
        raise SystemExit(f"{tool} is missing: rustup component add llvm-tools")
    return tool


def build(target: Path, flags: str) -> Path:
    """Builds the binary with these flags of the compiler."""
    environment = os.environ | {"RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(target)}
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


def run(binary: Path, folder: Path, backend: int, token: str, requests: int) -> None:
    """Lets the binary carry each of the loads."""
    for index, (config, client, more) in enumerate(LOADS):
        own = folder / str(index)
        own.mkdir()
        own.chmod(0o777)
        for file in folder.glob("tls.*"):
            shutil.copy(file, own)
        port = callgrind.free_port()
        command = peers.entrada(peers.Setup(own, port, backend, 1, "", str(binary)), config)
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            load = callgrind.Load(port, token, more, client)
            callgrind.connect(port).close()
            load.warm_up()
            load.send(requests // len(LOADS) // callgrind.CONNECTIONS * callgrind.CONNECTIONS)
            load.close()
            end(server)
        finally:
            server.kill()
            server.wait()
        print(f"{config}, {client}{', more fields' if more else ''}: carried", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target-dir", type=Path, default=ROOT / "target", help="where the binaries are built")
    parser.add_argument("--counting", type=Path, help="a counting binary that was built before")
    parser.add_argument("--requests", type=int, default=60_000, help="the number of requests of the load")
    options = parser.parse_args()
    tool, target = profdata(), options.target_dir.resolve()
    if not callgrind.installed("nginx", "h2load"):
        raise SystemExit("nginx or h2load is missing (Debian: nginx-light nghttp2-client)")
    with tempfile.TemporaryDirectory(prefix="entrada-dist-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        counts = folder / "counts"
        counts.mkdir()
        # A worker that is not root writes there.
        counts.chmod(0o777)
        counting = options.counting or build(target / "counting", "-Cprofile-generate")
        os.environ["LLVM_PROFILE_FILE"] = f"{counts}/%p.profraw"
        port = callgrind.free_port()
        material.MANY = 1
        material.make(folder, f"http://127.0.0.1:{port}", 0, 1)
        token = (folder / "one.txt").read_text().strip()
        backend = subprocess.Popen(peers.backend(peers.Setup(folder, port, port, 1, "", "")), stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            callgrind.connect(port).close()
            run(counting, folder, port, token, options.requests)
            decide(counting, folder, options.requests // 10)
        finally:
            os.killpg(backend.pid, signal.SIGTERM)
        raw = sorted(counts.glob("*.profraw"))
        if not raw:
            raise SystemExit("the counting binary has written no counts")
        merged = target / "entrada.profdata"
        subprocess.run([str(tool), "merge", "--output", str(merged), *map(str, raw)], check=True)
    print(build(target, f"-Cprofile-use={merged}"))


if __name__ == "__main__":
    main()
