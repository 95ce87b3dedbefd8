"""What scenarios have in common: policies that several gateways share, and what is checked of them."""

import json
import subprocess
from bisect import bisect_left
from pathlib import Path

from fleet import ENTRADA

ROOT = Path(__file__).resolve().parents[2]
KEY = "@(request.headers['x-key'])"
#: The deadline of a call, and what a busy machine may add to it.
TIMEOUT, SLACK = 0.15, 0.85
SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def settings(store, more="", timeout=2.0):
    """Returns the settings of the store; with time enough on a busy machine, unless the time is what matters."""
    return f'url: "redis://127.0.0.1:{store.port}", timeout: {int(timeout * 1000)}ms{more}'


def rate(calls, period, more=""):
    return f'rate-limit-by-key: {{ calls: {calls}, renewal-period: {period}, counter-key: "{KEY}", store: redis{more} }}'


def never_more_than(calls, period, arrivals):
    """Checks every period that begins with a call; returns the number of calls that were surely in the fullest one.

    The store decides about a call after it was sent, and before it arrives at the backend: if both are within a period, so is the decision.
    """
    sent, arrived = sorted(it[0] for it in arrivals), sorted(it[1] for it in arrivals)
    # Calls that took a period say nothing, and must not be subtracted where they were sent before it.
    slow = [it for it in arrivals if it[1] - it[0] >= period]
    most = 0
    for begin in sent:
        before = bisect_left(sent, begin) - sum(1 for it in slow if it[0] < begin and it[1] >= begin + period)
        most = max(most, bisect_left(arrived, begin + period) - before)
    assert most <= calls, f"{most} calls in a period, and not {calls}"
    assert most > calls / 2, f"the machine is so busy that only {most} calls are known to be within a period"
    return most


def doctor(gateway, outcome="failed"):
    command = [ENTRADA, "doctor", gateway.file, "--format", "json"]
    ran = subprocess.run([str(part) for part in command], capture_output=True, timeout=30, check=False)
    steps = json.loads(ran.stdout)["limit_store"]
    return ran.returncode, [step for step in steps if step["outcome"] == outcome]
