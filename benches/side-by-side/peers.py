"""The proxies that are compared, set up to do the same work: pass on, or check caller and token and hand on one claim."""

import json
from pathlib import Path

from material import AUDIENCE, CLIENT, KEY_ID, TENANT

ALLOWED = ["127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16"]


class Setup:
    """What a peer is started with."""

    def __init__(self, folder: Path, port: int, backend: int, threads: int, envoy: str, entrada: str, decider: int | None = None):
        self.folder, self.port, self.backend, self.threads = folder, port, backend, threads
        # The gateway that Envoy asks, where it asks one.
        self.envoy, self.entrada, self.decider = envoy, entrada, decider
        self.authority = f"http://127.0.0.1:{backend}"
        self.issuer = f"{self.authority}/{TENANT}/v2.0"

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


def nginx_frame(setup: Setup, name: str, threads: int, inside: str) -> list[str]:
    folder = setup.folder
    temporary = " ".join(f"{kind}_temp_path {folder}/{name}-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path = setup.write(f"{name}.conf", f"""
worker_processes {threads}; daemon off; pid {folder}/{name}.pid; error_log stderr crit; worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off; {temporary} keepalive_requests 100000000; keepalive_timeout 300s;
  {inside}
}}
""")
    return ["nginx", "-c", path, "-p", str(folder)]


def backend(setup: Setup) -> list[str]:
    """1 KiB for every path; the discovery documents and the keys; and who the proxy says the caller is."""
    folder = setup.folder
    return nginx_frame(setup, "backend", 1, f"""
  default_type application/json;
  server {{
    listen 127.0.0.1:{setup.backend} backlog=4096;
    location / {{ default_type text/plain; return 200 "{'x' * 1024}"; }}
    location = /orders/user {{ default_type text/plain; return 200 "$http_x_user"; }}
    location = /{TENANT}/v2.0/.well-known/openid-configuration {{ alias {folder}/v2.json; }}
    location = /{TENANT}/.well-known/openid-configuration {{ alias {folder}/v1.json; }}
    location = /keys {{ alias {folder}/keys.json; }}
  }}""")


def nginx(setup: Setup, kind: str) -> list[str]:
    listen = {"plain": "", "tls": " ssl", "h2": " http2"}[kind]
    tls = f"""ssl_certificate {setup.folder}/tls.crt; ssl_certificate_key {setup.folder}/tls.key;
    ssl_session_cache off; ssl_session_tickets off;""" if kind == "tls" else ""
    return nginx_frame(setup, f"nginx-{kind}", setup.threads, f"""
  upstream backend {{ server 127.0.0.1:{setup.backend}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{setup.port}{listen} reuseport backlog=4096; {tls}
    location / {{
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $remote_addr; proxy_pass http://backend;
    }}
  }}""")


def haproxy(setup: Setup, kind: str) -> list[str]:
    """`relay` copies bytes and reads none of them: what any proxy costs at least."""
    bearer = "var(txn.bearer)"
    deny = lambda status, condition: f"  http-request deny deny_status {status} {condition}\n"
    checks = "" if kind != "token" else (
        deny(403, f"unless {{ src {' '.join(ALLOWED)} }}")
        + deny(401, "unless { req.hdr(authorization) -m found }")
        + "  http-request set-var(txn.bearer) http_auth_bearer\n"
        + f"  http-request set-var(txn.alg) {bearer},jwt_header_query('$.alg')\n"
        + deny(401, "unless { var(txn.alg) -m str RS256 }")
        + deny(401, f"unless {{ {bearer},jwt_header_query('$.kid') -m str {KEY_ID} }}")
        + deny(401, f"unless {{ {bearer},jwt_verify(txn.alg,\"{setup.folder}/key.pub.pem\") 1 }}")
        + deny(401, f"unless {{ {bearer},jwt_payload_query('$.iss') -m str {setup.issuer} }}")
        + deny(401, f"unless {{ {bearer},jwt_payload_query('$.aud') -m str {AUDIENCE} }}")
        + deny(401, f"unless {{ {bearer},jwt_payload_query('$.scp') -m str Orders.Read }}")
        + f"  http-request set-var(txn.exp) {bearer},jwt_payload_query('$.exp','int')\n"
        + "  http-request set-var(txn.now) date()\n"
        + deny(401, "if { var(txn.exp),sub(txn.now) -m int lt 0 }")
        + f"  http-request set-header X-User %[{bearer},jwt_payload_query('$.sub')]\n"
    )
    tls = {"tls": f" ssl crt {setup.folder}/tls.both no-tls-tickets", "h2": " proto h2"}.get(kind, "")
    http = "" if kind == "relay" else "  option http-keep-alive\n  http-reuse always\n"
    forwarded = "" if kind == "relay" else "  http-request set-header X-Forwarded-For %[src]\n"
    path = setup.write(f"haproxy-{kind}.cfg", f"""
global
  nbthread {setup.threads}
  maxconn 9950
  tune.ssl.cachesize 0
defaults
  mode {"tcp" if kind == "relay" else "http"}
  timeout client 300s
  timeout server 300s
  timeout connect 5s
{http}frontend front
  bind 127.0.0.1:{setup.port} backlog 4096{tls}
{checks}{forwarded}  default_backend back
backend back
  server b 127.0.0.1:{setup.backend} pool-max-conn 512
""")
    return ["haproxy", "-db", "-f", path]


def envoy(setup: Setup, kind: str) -> list[str]:
    extension = "type.googleapis.com/envoy.extensions."
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    filters = []
    if kind in ("token", "cache", "h2-cache"):
        ranges = [text.split("/") for text in ALLOWED]
        principals = [{"direct_remote_ip": {"address_prefix": address, "prefix_len": int(length)}} for address, length in ranges]
        rules = {"action": "ALLOW", "policies": {"callers": {"permissions": [{"any": True}], "principals": principals}}}
        filters.append({"name": "rbac", "typed_config": {"@type": extension + "filters.http.rbac.v3.RBAC", "rules": rules}})
        provider = {
            "issuer": setup.issuer, "audiences": [AUDIENCE], "forward": True,
            "local_jwks": {"filename": str(setup.folder / "keys-plain.json")},
            "claim_to_headers": [{"header_name": "x-user", "claim_name": "sub"}],
        }
        if kind != "token":
            provider["jwt_cache_config"] = {"jwt_cache_size": 20_000}
        filters.append({"name": "jwt", "typed_config": {
            "@type": extension + "filters.http.jwt_authn.v3.JwtAuthentication", "providers": {"p": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "p"}}],
        }})
    if kind == "decided":
        # As `entrada check` prints it, with time enough on a busy machine.
        filters.append({"name": "decisions", "typed_config": {
            "@type": extension + "filters.http.ext_authz.v3.ExtAuthz", "transport_api_version": "V3", "validate_mutations": True,
            "grpc_service": {"envoy_grpc": {"cluster_name": "decider"}, "timeout": "5s"},
            "encode_raw_headers": True, "include_peer_certificate": True, "include_tls_session": True,
        }})
    filters.append({"name": "router", "typed_config": {
        "@type": extension + "filters.http.router.v3.Router", "suppress_envoy_headers": True,
    }})
    manager = {
        "@type": extension + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "s",
        "codec_type": "HTTP2" if kind.startswith("h2") else "HTTP1", "use_remote_address": True, "generate_request_id": False,
        "normalize_path": True, "http_filters": filters,
        "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "30s"}},
        ]}]},
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    if kind == "tls":
        file = lambda name: {"filename": str(setup.folder / name)}
        chain["transport_socket"] = {"name": "tls", "typed_config": {
            "@type": extension + "transport_sockets.tls.v3.DownstreamTlsContext",
            "disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True,
            "common_tls_context": {"tls_certificates": [{"certificate_chain": file("tls.crt"), "private_key": file("tls.key")}]},
        }}
    many = {"thresholds": [{"max_connections": 20_000, "max_pending_requests": 20_000, "max_requests": 20_000}]}
    cluster = lambda name, port, **more: {
        "name": name, "type": "STATIC", "circuit_breakers": many, **more,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]},
    }
    clusters = [cluster("backend", setup.backend)]
    if kind == "decided":
        http2 = {"@type": extension + "upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}
        options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}
        clusters.append(cluster("decider", setup.decider, typed_extension_protocol_options=options))
    path = setup.write(f"envoy-{kind}.json", json.dumps({"static_resources": {
        "listeners": [{"name": "l", "address": address(setup.port), "enable_reuse_port": True, "tcp_backlog_size": 4096,
                       "filter_chains": [chain]}],
        "clusters": clusters,
    }}))
    return [setup.envoy, "-c", path, "--concurrency", str(setup.threads), "--disable-hot-restart", "--log-level", "critical"]


def entrada(setup: Setup, kind: str, audit: dict | None = None) -> list[str]:
    """Audit records are on in every kind unless `audit` says otherwise: one JSON line a request. `large` is `token` in a config of much
    that is none of its business."""
    token = {"validate-azure-ad-token": {
        "tenant": "contoso", "audiences": [AUDIENCE], "client-application-ids": [CLIENT], "scopes": ["Orders.Read"],
    }}
    route = {"name": "orders", "match": {"path": "/orders"}, "authorization": "keep", "upstream": "backend"}
    if kind in ("token", "h2", "large", "decides"):
        route["inbound"] = [
            {"ip-filter": {"action": "allow", "addresses": ALLOWED}}, token,
            {"set-header": {"name": "X-User", "value": "@(token.claims.sub)"}},
        ]
    else:
        route["anonymous"] = True
    listener = {"name": "bench", "address": f"127.0.0.1:{setup.port}", "limits": {"connections": 15_000, "connections-per-peer": 15_000, "idle-timeout": "300s"}}
    if kind == "tls":
        listener["tls"] = {"certificate": "tls.crt", "private-key": "tls.key"}
    if kind == "decides":
        listener["decides"] = {"dialect": "envoy-grpc", "peers": ["127.0.0.1"]}
        route.update({"decide-only": True, "upstream": None})
    config = {
        "listeners": [listener],
        "admin": {"address": "127.0.0.1:0"},
        "tenants": {"contoso": {"id": TENANT, "authority": setup.authority}},
        "upstreams": {"backend": {"servers": [setup.authority]}},
        "routes": [{key: value for key, value in route.items() if value is not None}],
        "audit": audit or {"sinks": [{"file": {"path": "/dev/null"}}]},
    }
    if kind == "large":
        networks = (f"{11 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.0/25\n" for number in range(100_000))
        setup.write("networks.txt", "".join(networks))
        config["address-sets"] = {"networks": {"file": "networks.txt"}}
        route["inbound"][0]["ip-filter"]["addresses"] = [*ALLOWED, "networks"]
        header = {"set-header": {"name": "X-Region", "value": "westeurope"}}
        config["routes"] += [
            {"name": f"other-{number}", "match": {"path": f"/service-{number}/items"}, "anonymous": True, "respond": {"status": 204},
             "inbound": [header] * (100 if number == 0 else 0)} for number in range(5_000)
        ]
    # YAML is a superset of JSON.
    path = setup.write(f"entrada-{kind}.yaml", json.dumps(config, indent=1))
    return [setup.entrada, "run", "--config", path, "--workers", str(setup.threads)]


MAKERS = {"nginx": nginx, "haproxy": haproxy, "envoy": envoy, "entrada": entrada}
