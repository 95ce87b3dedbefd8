"""A service of gRPC, and Google's clients that call it through the gateway, with nothing in between."""

import json
import time
from concurrent import futures

import grpc
from interop import check, expect, wait_until


def fails(call):
    """Makes a call of gRPC that has to fail; returns its status and its detail."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


class Greeter(grpc.GenericRpcHandler):
    def service(self, details):
        def unary(body, context):
            deadline = context.time_remaining()
            return b"hello " + body + (b" in time" if deadline is not None and deadline < 60 else b"")

        def many(body, context):
            for number in range(int(body)):
                yield str(number).encode()

        def both(bodies, context):
            for body in bodies:
                yield body[::-1]

        def slow(body, context):
            for _ in range(200):
                if not context.is_active():
                    return b""
                time.sleep(0.05)
            return b"late"

        return {
            "/contoso.Greeter/Hello": grpc.unary_unary_rpc_method_handler(unary),
            "/contoso.Greeter/Count": grpc.unary_stream_rpc_method_handler(many),
            "/contoso.Greeter/Mirror": grpc.stream_stream_rpc_method_handler(both),
            "/contoso.Greeter/Slow": grpc.unary_unary_rpc_method_handler(slow),
        }.get(details.method)


def serve(port):
    """Starts the service."""
    greeter = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Greeter()])
    greeter.add_insecure_port(f"127.0.0.1:{port}")
    greeter.start()
    return greeter


def check_calls(bed):
    channel = grpc.insecure_channel(f"127.0.0.1:{bed.ports['public']}", options=[("grpc.enable_http_proxy", 0)])
    metadata = [("authorization", f"Bearer {bed.token}")]

    hello, slow = channel.unary_unary("/contoso.Greeter/Hello"), channel.unary_unary("/contoso.Greeter/Slow")

    @check("grpc: a unary call, and its deadline reaches the service")
    def _():
        expect(hello(b"nia", metadata=metadata, timeout=20), b"hello nia in time", "answer")

    @check("grpc: a stream from the service, and one both ways")
    def _():
        counted = list(channel.unary_stream("/contoso.Greeter/Count")(b"500", metadata=metadata, timeout=20))
        expect((len(counted), counted[-1]), (500, b"499"), "messages")
        mirrored = list(channel.stream_stream("/contoso.Greeter/Mirror")(iter([b"abc", b"def"]), metadata=metadata, timeout=20))
        expect(mirrored, [b"cba", b"fed"], "messages")

    @check("grpc: a refused call raises its status, with the code as detail")
    def _():
        expect(fails(lambda: hello(b"nia", timeout=20)), (grpc.StatusCode.UNAUTHENTICATED, "token-missing"), "error")
        weak = [("authorization", f"Bearer {bed.minted(scopes=['Other'])}")]
        expect(fails(lambda: hello(b"nia", metadata=weak, timeout=20)), (grpc.StatusCode.PERMISSION_DENIED, "scope-missing"), "error")
        unknown = channel.unary_unary("/contoso.Nobody/Hello")
        expect(fails(lambda: unknown(b"nia", metadata=metadata, timeout=20)), (grpc.StatusCode.UNIMPLEMENTED, "no-route"), "error")
        audit = bed.work / "audit.jsonl"
        refused = '"listener":"public",'
        wait_until(lambda: any(refused in line and '"grpc_status":7' in line for line in audit.read_text().splitlines()), "the record is written")
        record = next(json.loads(line) for line in audit.read_text().splitlines() if refused in line and '"grpc_status":7' in line)
        expect((record["status"], record["grpc_status"]), (403, 7), "record")

    @check("grpc: the same over TLS")
    def _():
        trusted = grpc.ssl_channel_credentials((bed.work / "server.pem").read_bytes())
        with grpc.secure_channel(f"localhost:{bed.ports['encrypted']}", trusted, options=[("grpc.enable_http_proxy", 0)]) as secure:
            greet = secure.unary_unary("/contoso.Greeter/Hello")
            expect(greet(b"nia", metadata=metadata, timeout=20), b"hello nia in time", "answer")
            expect(len(list(secure.unary_stream("/contoso.Greeter/Count")(b"500", metadata=metadata, timeout=20))), 500, "messages")
            expect(fails(lambda: greet(b"nia", timeout=20)), (grpc.StatusCode.UNAUTHENTICATED, "token-missing"), "error")

    @check("grpc: a deadline ends the call on both sides")
    def _():
        began = time.monotonic()
        code, _ = fails(lambda: slow(b"", metadata=metadata, timeout=0.5))
        expect(code, grpc.StatusCode.DEADLINE_EXCEEDED, "status")
        expect(time.monotonic() - began < 5, True, "time")

    @check("grpc: a call that is cancelled ends")
    def _():
        call = slow.future(b"", metadata=metadata, timeout=20)
        time.sleep(0.2)
        call.cancel()
        expect(call.cancelled(), True, "cancelled")

    channel.close()
