#!/usr/bin/env python3
"""Prometheus scrapes a busy gateway: its own tool finds nothing wrong with the metrics, every query of the dashboard and every alert has an
answer, and the queries have data.

    tests/metrics/dashboard.py [BINARY]

prometheus (Debian) must be there. Everything is on loopback, every wait is bounded, and only processes that this started are ended.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/console"))

from scene import Scene, fetch, free_port, until  # noqa: E402

RULES = ROOT / "deploy/prometheus/entrada.rules.yaml"
DASHBOARD = ROOT / "deploy/grafana/entrada.json"
#: The parts of a gateway that this one does not have, or that do not happen to it: their panels are empty there, as they should be.
ABSENT = {
    "entrada_limit_store_": "no store of limits",
    "entrada_candidate_": "no candidate",
    "entrada_audit_spooled_bytes": "no sink that crosses a network",
    "entrada_credential_certificate_expiry": "no certificate",
    "entrada_partner_expires_": "no partner whose access ends",
    "changes(entrada_config_generation": "no reload: an annotation",
}


def expressions(value, key=None):
    """Every query of the dashboard, with what Grafana puts in."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from expressions(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from expressions(part)
    elif key == "expr":
        filled = value.replace("$__rate_interval", "8s").replace("$__range", "1m").replace("$job", "entrada")
        yield filled.replace('"$instance"', '".*"').replace('"$route"', '".*"')


class Prometheus:
    def __init__(self, folder, target):
        self.url = f"http://127.0.0.1:{free_port()}"
        config = folder / "prometheus.yml"
        jobs = f"scrape_configs: [ {{ job_name: entrada, static_configs: [ {{ targets: ['{target}'] }} ] }} ]"
        config.write_text(f"global: {{ scrape_interval: 1s, evaluation_interval: 2s }}\nrule_files: [ '{RULES}' ]\n{jobs}\n")
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={self.url[7:]}"]
        with open(folder / "prometheus.log", "wb") as log:
            self.child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: fetch(self.url + "/-/ready")[0] == 200, "Prometheus never got ready")

    def ask(self, path, **parameters):
        status, body = fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(body)
        assert status == 200 and answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def main():
    entrada = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/entrada").resolve()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="entrada-dashboard-"))
    scene, prometheus = Scene(entrada, folder), None
    try:
        scene.traffic(2)
        checked = subprocess.run(["promtool", "check", "metrics"], input=fetch(scene.admin + "/metrics")[1], capture_output=True, timeout=60)
        assert checked.returncode == 0 and not checked.stderr, checked.stderr.decode()
        prometheus = Prometheus(folder, scene.admin[7:])
        end = time.monotonic() + 12
        while time.monotonic() < end:
            scene.traffic()
        queries = list(dict.fromkeys(expressions(json.loads(DASHBOARD.read_text()))))
        assert len(queries) > 40, len(queries)
        empty = [query for query in queries if not prometheus.ask("query", query=query)["result"]]
        unexpected = [query for query in empty if not any(part in query for part in ABSENT)]
        assert not unexpected, "these queries have no data:\n" + "\n".join(unexpected)
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        wrong = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] == "err"]
        assert rules and not wrong, wrong
        print(f"{len(queries) - len(empty)} queries have data, {len(empty)} are of parts that this gateway does not have; {len(rules)} rules are evaluated")
    finally:
        if prometheus:
            prometheus.stop()
        scene.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
