"""Audit sinks before programs that nobody here wrote: rsyslog, Azure's own client library, and the published protocol of OpenTelemetry."""

import json
import os
import subprocess
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import requests
from azure.identity import CertificateCredential
from azure.monitor.ingestion import LogsIngestionClient
from google.protobuf.unknown_fields import UnknownFieldSet
from interop import GATEWAY, certificate, check, conduct, expect, free_port, wait_until
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

TENANT = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
RULE = "dcr-00000000000000000000000000000000"
STREAM = "Custom-Entrada_CL"
REQUESTS = 200
#: The fields that stand in structured data, too, besides `status`.
PARAMETERS = (
    ["record_id", "request_id", "listener", "event", "route", "method", "host", "path", "caller", "decision", "code", "policy"]
    + ["client_application", "object_id", "partner"]
)


class Collector(BaseHTTPRequestHandler):
    """An OpenTelemetry collector that keeps what it gets."""

    protocol_version = "HTTP/1.1"
    received = {}
    lock = threading.Lock()

    def do_POST(self):  # noqa: N802 - the name is the library's
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.received.setdefault(self.path, []).append((self.headers["Content-Type"], body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Service(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):
    """The published services of a collector, behind Google's own server of gRPC. The first call finds it not ready."""

    def __init__(self):
        self.requests, self.metadata, self.calls, self.lock = {}, [], 0, threading.Lock()

    def Export(self, request, context):  # noqa: N802 - the name is the protocol's
        with self.lock:
            self.calls += 1
            if self.calls == 1:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
            self.requests.setdefault(type(request), []).append(request.SerializeToString())
            self.metadata.append((dict(context.invocation_metadata()), context.time_remaining()))
        return ExportTraceServiceResponse() if isinstance(request, ExportTraceServiceRequest) else ExportMetricsServiceResponse()

    def of(self, kind):
        with self.lock:
            return list(self.requests.get(kind, []))


def collector_of_grpc():
    """Starts a collector that takes gRPC; returns it with its port, and what it receives."""
    service, server = Service(), grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port, service


def strictly(kind, body):
    """Decodes a message of which nothing may be left over."""
    message = kind()
    expect(message.ParseFromString(body), len(body), "the length that was read")

    def whole(message):
        expect(len(UnknownFieldSet(message)), 0, f"unknown fields of {message.DESCRIPTOR.name}")
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                for entry in value if hasattr(value, "__len__") else [value]:
                    whole(entry)

    whole(message)
    return message


TEMPLATE = """
template(name="fields" type="list" option.jsonf="on") {
    property(outname="input" name="inputname" format="jsonf")
    property(outname="facility" name="syslogfacility-text" format="jsonf")
    property(outname="severity" name="syslogseverity-text" format="jsonf")
    property(outname="time" name="timereported" dateformat="rfc3339" format="jsonf")
    property(outname="app" name="app-name" format="jsonf")
    property(outname="id" name="msgid" format="jsonf")
    property(outname="data" name="$!rfc5424-sd" format="jsonf")
    property(outname="message" name="msg" format="jsonf")
}
"""


def rsyslog(work, name, inputs):
    """Writes a config of rsyslog, and returns it with the file of what it received."""
    received = work / f"{name}.received"
    config = work / f"{name}.conf"
    config.write_text(
        f"""
global(workDirectory="{work}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
module(load="mmpstrucdata")
{inputs}
{TEMPLATE}
action(type="mmpstrucdata")
action(type="omfile" file="{received}" template="fields")
"""
    )
    return config, received


def messages(received):
    if not received.exists():
        return []
    read = [json.loads(line) for line in received.read_text().splitlines() if line.endswith("}")]
    for message in read:
        # A tree is written as a text within the line.
        if isinstance(message["data"], str):
            message["data"] = json.loads(message["data"])
    return read


def walk(arguments, processes):
    entrada, work = arguments.entrada, arguments.work
    port, admin, public = free_port(), free_port(), free_port()
    udp, tcp, tls, otlp = free_port(), free_port(), free_port(), free_port()
    ca = work / "ca.pem"
    processes.start("tenant", entrada, "dev-tenant", "--tls", "--ca-file", ca, "--address", f"127.0.0.1:{port}", stdout=subprocess.DEVNULL)
    base = f"https://localhost:{port}"
    session = requests.Session()
    session.trust_env = False
    wait_until(lambda: ca.exists() and session.get(f"{base}/", verify=str(ca)).ok, "the tenant")
    session.verify = str(ca)
    own = certificate(entrada, work, "gateway")
    app = {"client_id": GATEWAY, "name": "Gateway", "identifier_uris": ["api://gateway"], "certificates": [own["key_credential"]["key"]]}
    assert session.post(f"{base}/dev/apps", json=app).ok, "the registration"

    collector = ThreadingHTTPServer(("127.0.0.1", otlp), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()

    siem = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    siem += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(work / "siem.key"), "-out", str(work / "siem.pem")]
    subprocess.run(siem, check=True, capture_output=True, timeout=60)
    socket = work / "log"
    plain, received = rsyslog(
        work,
        "plain",
        f"""
module(load="imudp") module(load="imtcp") module(load="imuxsock" sysSock.use="off")
input(type="imudp" address="127.0.0.1" port="{udp}" rcvbufSize="4m")
input(type="imtcp" address="127.0.0.1" port="{tcp}")
input(type="imuxsock" socket="{socket}" useSpecialParser="off" rateLimit.interval="0")
""",
    )
    secure, received_tls = rsyslog(
        work,
        "tls",
        f"""
global(defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{work / "siem.pem"}" defaultNetstreamDriverCertFile="{work / "siem.pem"}" defaultNetstreamDriverKeyFile="{work / "siem.key"}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="{tls}")
""",
    )
    for name, config in (("plain", plain), ("tls", secure)):
        processes.start(f"rsyslog-{name}", arguments.rsyslogd, "-n", "-f", config, "-i", work / f"{name}.pid", stdout=subprocess.DEVNULL)
    wait_until(socket.exists, "rsyslog")

    config = work / "entrada.yaml"
    config.write_text(
        f"""
listeners: [ {{ name: public, address: "127.0.0.1:{public}" }} ]
admin: {{ address: "127.0.0.1:{admin}" }}
identity-http: {{ ca: "{ca}" }}
tenants: {{ contoso: {{ id: {TENANT}, authority: "{base}" }} }}
credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: gateway.pem }} }} }}
routes:
  - {{ name: own, match: {{ path: /own }}, anonymous: true, respond: {{ status: 200, body: fine }} }}
  - {{ name: shut, match: {{ path: /shut }}, anonymous: true, inbound: [ check-header: {{ name: X-Door }} ], respond: {{ status: 200 }} }}
telemetry: {{ otlp: {{ endpoint: "http://127.0.0.1:{otlp}", traces: {{}}, metrics: {{ every: 1s }} }} }}
audit:
  sinks:
    - file: {{ path: records.jsonl }}
    - syslog: {{ address: "udp://127.0.0.1:{udp}", facility: local1 }}
    - syslog: {{ address: "tcp://127.0.0.1:{tcp}", facility: local2 }}
    - syslog: {{ address: "tls://localhost:{tls}", facility: local3, ca: siem.pem }}
    - syslog: {{ address: "unix:{socket}", facility: local4 }}
    - otlp: {{ endpoint: "http://127.0.0.1:{otlp}" }}
    - azure-monitor: {{ endpoint: "{base}", rule: {RULE}, stream: {STREAM}, credential: gateway }}
  spool: {{ directory: spool }}
"""
    )
    processes.start("gateway", entrada, "run", config, stdout=subprocess.DEVNULL, env={**os.environ, "ENTRADA_LOG": "info"})
    gateway = f"http://127.0.0.1:{public}"
    wait_until(lambda: session.get(f"http://127.0.0.1:{admin}/readyz").ok, "the gateway")
    for number in range(REQUESTS):
        session.get(f"{gateway}/own/{number}", headers={"User-Agent": 'quote " bracket ] backslash \\'})
    session.get(f"{gateway}/shut/a%5Db")

    def written():
        return [json.loads(line) for line in (work / "records.jsonl").read_text().splitlines()]

    wait_until(lambda: len(written()) >= REQUESTS + 1, "the file")
    records = {record["record_id"]: record for record in written()}

    def syslog(name, facility, source):
        @check(f"rsyslog parses every record that comes over {name}")
        def _():
            def own():
                return [message for message in messages(source) if message["facility"] == facility]

            wait_until(lambda: len({message["data"]["entrada@32473"]["record_id"] for message in own()}) >= len(records), f"rsyslog over {name}", 60)
            for message in own():
                data = message["data"]["entrada@32473"]
                record = records[data["record_id"]]
                expect(json.loads(message["message"]), record, "the message")
                expect((message["app"], message["id"]), ("entrada", record["decision"]))
                expect(message["severity"], {"allow": "info", "deny": "warning"}[record["decision"]])
                for field in PARAMETERS:
                    expect(data.get(field), record.get(field), f"the parameter {field}")
                expect(data["status"], str(record["status"]))
                expect(set(data) - {"status"} - set(PARAMETERS), set(), "further parameters")
            return f"{len(own())} messages"

    syslog("UDP", "local1", received)
    syslog("TCP with octet counting", "local2", received)
    syslog("TLS", "local3", received_tls)
    syslog("a unix socket", "local4", received)

    @check("Azure's client library makes the rows that the sink makes")
    def _():
        def rows(stream):
            return session.get(f"{base}/dev/monitor/rows", params={"stream": stream}).json()

        wait_until(lambda: len(rows(STREAM)) >= len(records), "the rows", 60)
        ours = rows(STREAM)
        expect({row["RecordId"] for row in ours}, set(records), "the records")
        for row in ours:
            record = records[row["RecordId"]]
            expect((row["TimeGenerated"], row["Decision"], row["Path"]), (record["time"], record["decision"], record["path"]))
        credential = CertificateCredential(
            TENANT, GATEWAY, str(work / "gateway.pem"), authority=base, connection_verify=str(ca), disable_instance_discovery=True
        )
        client = LogsIngestionClient(base, credential, connection_verify=str(ca))
        client.upload(rule_id=RULE, stream_name="Custom-Sdk_CL", logs=ours)
        expect(rows("Custom-Sdk_CL"), ours, "the rows of the library")
        calls = session.get(f"{base}/dev/calls", params={"path": "_CL"}).json()["requests"]
        paths = {call.replace("Custom-Sdk_CL", STREAM) for call in calls}
        expect(len(paths), 1, f"the number of ways to call ({paths})")
        return f"{len(ours)} rows"

    def collected(path):
        with Collector.lock:
            return list(Collector.received.get(path, []))

    @check("log records are those of the published protocol")
    def _():
        def logs():
            requests = [strictly(ExportLogsServiceRequest, body) for _, body in collected("/v1/logs")]
            return [log for request in requests for resource in request.resource_logs for scope in resource.scope_logs for log in scope.log_records]

        wait_until(lambda: len(logs()) >= len(records), "the logs", 60)
        for log in logs():
            attributes = {pair.key: pair.value for pair in log.attributes}
            record = records[attributes["entrada.record_id"].string_value]
            expect(attributes["entrada.path"].string_value, record["path"])
            expect(attributes["entrada.status"].int_value, record["status"])
            expect(log.trace_id.hex(), record["trace_id"])
            expect(log.severity_text, {"allow": "INFO", "deny": "WARN"}[record["decision"]])
            assert attributes["entrada.config"].kvlist_value.values, "an object is a list of pairs"
        expect({kind for kind, _ in collected("/v1/logs")}, {"application/x-protobuf"})
        return f"{len(logs())} log records"

    @check("traces and metrics are those of the published protocol")
    def _():
        wait_until(lambda: collected("/v1/traces") and len(collected("/v1/metrics")) >= 2, "traces and metrics", 60)
        traces = [strictly(ExportTraceServiceRequest, body) for _, body in collected("/v1/traces")]
        metrics = [strictly(ExportMetricsServiceRequest, body) for _, body in collected("/v1/metrics")]
        spans = [span for request in traces for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
        names = {metric.name for request in metrics for resource in request.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics}
        assert spans and all(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in spans), "ids of spans"
        assert any(name.startswith("entrada_audit_records_written") for name in names), sorted(names)
        return f"{len(spans)} spans, {len(names)} metrics"

    @check("a server of gRPC takes traces and metrics, also when it was not ready at first")
    def _():
        server, port, service = collector_of_grpc()
        own, own_admin = free_port(), free_port()
        config = work / "grpc.yaml"
        config.write_text(
            f"""
listeners: [ {{ name: public, address: "127.0.0.1:{own}" }} ]
admin: {{ address: "127.0.0.1:{own_admin}" }}
routes: [ {{ name: own, match: {{ path: /own }}, anonymous: true, respond: {{ status: 200, body: fine }} }} ]
telemetry: {{ otlp: {{ headers: {{ x-scope: tests }}, traces: {{}}, metrics: {{ every: 1s }} }} }}
"""
        )
        variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        processes.start("grpc", entrada, "run", config, stdout=subprocess.DEVNULL, env={**os.environ, **variables})
        wait_until(lambda: session.get(f"http://127.0.0.1:{own_admin}/readyz").ok, "the gateway")
        for number in range(10):
            session.get(f"http://127.0.0.1:{own}/own/{number}")
        wait_until(lambda: service.of(ExportTraceServiceRequest) and len(service.of(ExportMetricsServiceRequest)) >= 2, "traces and metrics", 60)
        server.stop(None).wait(20)
        traces = [strictly(ExportTraceServiceRequest, body) for body in service.of(ExportTraceServiceRequest)]
        metrics = [strictly(ExportMetricsServiceRequest, body) for body in service.of(ExportMetricsServiceRequest)]
        spans = [span for request in traces for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
        assert spans and metrics, "spans and metrics"
        expect({fields["x-scope"] for fields, _ in service.metadata}, {"tests"})
        assert all(0 < left <= 10 for _, left in service.metadata), "each call has a deadline"
        return f"{len(spans)} spans, {len(metrics)} exports of metrics"


if __name__ == "__main__":
    sys.exit(conduct(walk, "entrada", "rsyslogd", "work"))
