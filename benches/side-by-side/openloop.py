"""openloop.py PORT RATE SECONDS CONNECTIONS TOKEN-FILE: requests arrive at a fixed mean rate (Poisson) whatever the server does.

A latency counts from the arrival, so that a server that stalls cannot hide it by keeping the load waiting. Prints
`RESULT count failed p50 p99` in microseconds. What this program itself takes is in every figure alike: compare differences.
"""

import collections
import gc
import random
import select
import socket
import sys
import time

WARM_UP = 0.3
END = b"x" * 1024


def main() -> None:
    port, rate, seconds, connections = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    token = open(sys.argv[5], encoding="ascii").readline().strip()
    request = f"GET /orders/42?x=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    with open("/proc/self/timerslack_ns", "w", encoding="ascii") as slack:
        slack.write("1")
    gc.disable()

    idle, waiting, busy, took, failed = collections.deque(), collections.deque(), {}, [], 0

    def connect() -> None:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        idle.append(connection)

    for _ in range(connections):
        connect()
    clock = time.perf_counter
    begin = clock()
    due, end = begin, begin + WARM_UP + seconds
    while due < end or busy:
        now = clock()
        while due <= now and due < end:
            waiting.append(due)
            due += random.expovariate(rate)
        while waiting and idle:
            connection = idle.popleft()
            connection.send(request)
            busy[connection] = (waiting.popleft(), [])
        if now > end + 5:
            failed += len(busy) + len(waiting)
            break
        ready, _, _ = select.select(list(busy), [], [], max(0.0, due - clock()) if due < end else 0.01)
        for connection in ready:
            part = connection.recv(65_536)
            if not part:
                failed += 1
                del busy[connection]
                connection.close()
                connect()
                continue
            arrived, parts = busy[connection]
            parts.append(part)
            if not part.endswith(END) and not b"".join(parts).endswith(END):
                continue
            del busy[connection]
            idle.append(connection)
            if not parts[0].startswith(b"HTTP/1.1 200 "):
                failed += 1
            elif arrived >= begin + WARM_UP:
                took.append(clock() - arrived)
    took.sort()
    p50, p99 = (took[len(took) * percent // 100] * 1e6 for percent in (50, 99))
    print(f"RESULT {len(took)} {failed} {p50:.1f} {p99:.1f}")


main()
