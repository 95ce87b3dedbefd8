"""Generated requests, sent through a proxy that asks entrada and to entrada itself: both are decided alike, or the decision is refused for a stated reason."""

import random
import re
from concurrent import futures

from fronts import Backend, code_of, raw, request, values
from interop import expect

#: Half of the requests are those of usual clients: most of what is put together is refused for one part or another.
USUAL = ["/orders", "/orders/1", "/orders/1?a=b,c"]
TARGETS = [*USUAL, "/orders/1?", "/notes/1", "/other", "/", "/ordersx", "/orders/%41", "/orders/a%20b", "/orders/%c3%a9", "/Orders/1"]
METHODS = ["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]
#: Names that no client may set, or that have another spelling; those by which some proxy asks; and a client's own.
RESERVED = ["X-User", "x_user", "X.User", "X-Real-IP", "X-MS-CLIENT-PRINCIPAL", "X-Forwarded-User", "X-Forwarded-Prefix"]
ASKING = ["X-Original-URL", "X-Original-Method", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Host", "Forwarded", "X-Auth-Request-Redirect", "X-Original-Host"]
OWN = ["X-Request-Id", "Cookie", "X-Tier", "Accept-Language", "X-Forwarded-For"]
EVIL = "evil"


def generate(chance, tokens):
    fields, usual = [("Accept", "*/*")], chance.random() < 0.5
    if usual:
        fields.append(("Authorization", f"Bearer {tokens[0]}"))
    elif chance.random() < 0.85:
        fields.append(("Authorization", f"Bearer {chance.choice(tokens)}"))
        if chance.random() < 0.05:
            fields.append(("Authorization", "Bearer a.b.c"))
    for _ in range(chance.randrange(3)):
        fields.append((chance.choice(chance.choice([RESERVED, ASKING, OWN, OWN])), EVIL))
    method = chance.choice(METHODS)
    if method in ("POST", "PUT", "PATCH"):
        fields.append(("Content-Length", "0"))
    return method, chance.choice(USUAL if usual else TARGETS), fields


def plain(path):
    """A path as records have it: a letter that is written as a number is that letter, and other numbers are in capitals."""
    def one(found):
        letter = chr(int(found.group(1), 16))
        return letter if letter.isascii() and (letter.isalnum() or letter in "-._~") else found.group().upper()

    return re.sub("%([0-9a-fA-F]{2})", one, path.split("?")[0])


def stated(dialect, fields):
    """Whether a decision may refuse what is admitted by itself: for a field that the proxy does not take away, or by which another one asks."""
    names = [name for name, value in fields if value == EVIL]
    odd = any("_" in name or "." in name for name in names)
    return odd or (dialect not in ("envoy-grpc", "envoy-http") and any(name in ASKING for name in names))


class Generated:
    """Requests to one proxy, each with a mark by which it is known at the backend."""

    def __init__(self, front, bed, number):
        self.front, self.bed = front, bed
        chance = random.Random(front.name)
        token = bed.token
        expired = bed.minted(expired=True)
        tokens = [token] * 4 + [bed.minted(scopes=["Other"]), bed.minted(audience="api://other", force=True), expired, "a.b.c"]
        self.requests = [generate(chance, tokens) for _ in range(number)]
        self.marks = {}

    def run(self):
        """Returns how many were decided alike, and how many refused for a stated reason."""
        with futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(self.both, range(len(self.requests))))
        for came in Backend.taken():
            for mark in values(came, "x-mark"):
                self.marks.setdefault(mark, []).append(came)
        outcomes = [self.judge(number, *answer) for number, answer in enumerate(answers)]
        admitted = outcomes.count("admitted")
        expect(admitted > len(outcomes) / 10, True, f"{admitted} admitted of {len(outcomes)}")
        self.same_request()
        return admitted, outcomes.count("refused"), outcomes.count("stated")

    def both(self, number):
        method, target, fields = self.requests[number]
        direct = raw(self.bed.ports["public"], request(target, *fields, ("X-Mark", f"direct-{number}"), method=method))
        asked = raw(self.front.port, request(target, *fields, ("X-Mark", f"asked-{number}"), method=method))
        return direct, asked

    def judge(self, number, direct, asked):
        method, target, fields = self.requests[number]
        (alone, _, told), (status, headers, body) = direct, asked
        came = self.marks.get(f"asked-{number}", [])
        case = f"{method} {target} {[field for field in fields if field[0] != 'Authorization']}: {status} {code_of(headers, body)}, and {alone} {told[:200]}"
        if status == 200:
            expect((alone, len(came)), (200, 1), case)
            # What a client wrote comes no further than past the gateway itself.
            written = lambda came: {name for name, value in came["headers"] if EVIL in value}  # noqa: E731
            expect(written(came[0]) - written(self.marks[f"direct-{number}"][0]), set(), case)
            return "admitted"
        expect(came, [], case)
        if alone == 200:
            expect(stated(self.front.dialect, fields), True, case)
            expect(code_of(headers, body) in ("request-header-invalid", ""), True, case)
            return "stated"
        # A proxy that refuses two tokens by itself does so with 400.
        expect(status in (self.front.told(alone), self.front.told(400), 400), True, case)
        return "refused"

    def same_request(self):
        """The request that was forwarded is the one that was decided."""
        came = {values(one, "x-request-id")[0]: one for mark, (one,) in self.marks.items() if mark.startswith("asked-")}
        records = self.bed.records(came.keys())
        for id, one in came.items():
            decided = records[id]
            found = (one["method"], plain(one["path"]), self.front.dialect)
            expect(found, (decided["method"], decided["path"], decided["dialect"]), "the request that was forwarded")
