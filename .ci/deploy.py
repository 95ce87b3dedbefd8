"""Checks what `deploy/` holds: manifests against the schemas of Kubernetes, the chart by Helm itself, and the configs in both by entrada.

    .ci/deploy.py ENTRADA
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/helm/entrada"
VERSIONS = ("1.30.0", "1.37.0")
# Kinds that are no part of Kubernetes; their shape is stated here.
FOREIGN = {"ServiceMonitor": {"selector": dict, "endpoints": list}, "Kustomization": None}

VALUES = {
    "defaults": {},
    "everything": {
        "liveReload": False,
        "image": {"repository": "registry.contoso.example/entrada", "digest": "sha256:" + "0" * 64},
        "existingSecrets": {"partner": {"secretName": "entrada-partner"}},
        "workloadIdentity": {"clientId": "00001111-aaaa-2222-bbbb-3333cccc4444", "tenantId": "aaaabbbb-0000-cccc-1111-dddd2222eeee"},
        "service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "annotations": {"example": "yes"}},
        "serviceAccount": {"annotations": {"example": "yes"}},
        "networkPolicy": {"enabled": True, "egress": [{"ports": [{"port": 8080}]}]},
        "storage": {"spool": {"enabled": True}, "records": {"enabled": True, "size": "5Gi"}},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podAnnotations": {"example": "yes"},
        "podLabels": {"example": "yes"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}],
    },
    "by-hand": {"autoscaling": {"enabled": False}, "podDisruptionBudget": {"enabled": False}, "serviceAccount": {"name": "own"}, "tls": {"existingSecret": ""}},
}


def validate(name: str, objects: list[dict]) -> None:
    """Fails if an object is none of its kind, by the strict schemas of the oldest and the newest version."""
    for thing in objects:
        kind = thing["kind"]
        if kind in FOREIGN:
            for key, shape in (FOREIGN[kind] or {}).items():
                assert isinstance(thing["spec"][key], shape), f"{name}: {kind} has no {key}"
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(thing, version, strict=True)
    print(f"{name}: {len(objects)} objects")


def check_configs(name: str, objects: list[dict], entrada: str) -> None:
    """Runs `entrada check` on each config of a ConfigMap, with a certificate in place of the Secret's."""
    for thing in objects:
        text = thing.get("data", {}).get("entrada.yaml") if thing["kind"] == "ConfigMap" else None
        if text is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            subject = ["-subj", "/CN=api.contoso.example", "-addext", "subjectAltName=DNS:api.contoso.example"]
            files = ["-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt"]
            openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", *subject, *files]
            subprocess.run(openssl, check=True, capture_output=True)
            config = Path(folder) / "entrada.yaml"
            config.write_text(text.replace("/run/secrets/tls", folder))
            # As the webhook of workload identity sets them.
            (Path(folder) / "token").write_text("not.a.token")
            pod = {"AZURE_CLIENT_ID": "00001111-aaaa-2222-bbbb-3333cccc4444", "AZURE_TENANT_ID": "aaaabbbb-0000-cccc-1111-dddd2222eeee", "AZURE_FEDERATED_TOKEN_FILE": f"{folder}/token"}
            run = subprocess.run([entrada, "check", str(config)], capture_output=True, text=True, env=os.environ | pod)
            assert run.returncode == 0, f"{name}: {run.stdout}{run.stderr}"
            print(f"{name}: the config can be used")


def render(values: dict) -> list[dict]:
    """Lints the chart with the values as `helm lint --strict` does, and returns the objects it makes of them."""
    report = lint(CHART, values, strict=True, kube_version="v1.30.0")
    found = [message for message in report["messages"] if message["severity"] >= 2] + report["errors"]
    assert not found, found
    chart = Chart.load(CHART)
    chart.validate_schema(chart.merge_values(values))
    files = chart.render(values, name="edge", namespace="edge")
    assert any(name.endswith("NOTES.txt") and "edge" in text for name, text in files.items()), "no notes"
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return [thing for text in texts for thing in yaml.safe_load_all(text) if thing]


def refused(values: dict, what: str) -> None:
    """Fails if the chart's schema lets the values through."""
    chart = Chart.load(CHART)
    try:
        chart.validate_schema(chart.merge_values(values))
    except HelmError:
        print(f"chart: {what} is refused")
    else:
        raise AssertionError(f"the chart takes {what}")


def main() -> None:
    entrada = sys.argv[1]
    manifests = []
    for file in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")):
        manifests += [thing for thing in yaml.safe_load_all(file.read_text()) if thing]
    listed = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())["resources"]
    assert all((ROOT / "deploy/kubernetes" / name).is_file() for name in listed), listed
    validate("deploy/kubernetes", manifests)
    check_configs("deploy/kubernetes", manifests, entrada)
    for name, values in VALUES.items():
        rendered = render(values)
        validate(f"chart, {name}", rendered)
        check_configs(f"chart, {name}", rendered, entrada)
    refused({"replica": 3}, "a value with a typing error")
    refused({"ports": {"public": 443, "health": 9902}}, "a port that needs privileges")


main()
