"""The scripts by themselves, on a clock that the test moves, compared with lists of all calls."""

import random
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "src/limits/store/scripts"
PERIOD = 60_000_000
HOLD = 5_000_000


def with_own_clock(name):
    """Returns the script with a clock that its last two arguments tell."""
    text = (FOLDER / f"{name}.lua").read_text()
    clock = "local clock = redis.call('TIME')"
    assert text.count(clock) == 1, name
    return text.replace(clock, "local clock = {table.remove(ARGV, #ARGV - 1), table.remove(ARGV)}")


def ask(store, script, key, now, *arguments):
    return store.ask("EVAL", script, 1, key, *arguments, now // 1_000_000, now % 1_000_000)


def fullest(times, period):
    """Returns the most calls within any period."""
    times, first, most = sorted(times), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= period:
            first += 1
        most = max(most, last - first + 1)
    return most


def rates(store, seed, steps=400):
    """Random calls, calls ahead, and calls given back: never more in any period, and none refused for nothing."""
    chance, script, key = random.Random(seed), with_own_clock("rate"), f"rate-{seed}"
    limit = chance.randint(1, 30)
    now, counted, given, back = 1_800_000_000_000_000, [], [], (0, 0)
    for _ in range(steps):
        now += chance.choice([chance.randint(0, 999), chance.randint(0, 20_000_000), chance.randint(0, 200_000_000)])
        cost = chance.choice([0, 1, 1, 1, 2])
        ahead = chance.choice([0, 0, 0, 3])
        admitted, ahead, remaining, wait, at = ask(store, script, key, now, PERIOD, *back, limit, cost, ahead, HOLD)
        if back[1]:
            counted.remove(back[0])
            back = (0, 0)
        within = sum(1 for then in counted if now - then < PERIOD)
        if admitted:
            assert within + cost + ahead <= limit, (seed, within, cost, ahead, limit)
            assert at == (now + HOLD if ahead else now), (seed, at, now)
            # They count from when they may be used last, and may be used at any time before.
            counted += [at] * (cost + ahead)
            given += [chance.randint(now, at) for _ in range(cost + ahead)]
            assert remaining <= limit - within - cost - ahead, (seed, remaining)
            if cost == 1 and ahead == 0 and chance.random() < 0.2:
                back = (at, 1)
                given.remove(now)
        else:
            assert wait > 0 and remaining < max(cost, 1), (seed, wait, remaining)
            # Calls count for an eleventh of the period too long at most.
            longer = sum(1 for then in counted if now - then < PERIOD + PERIOD // 11)
            assert longer + max(cost, 1) > limit, (seed, longer, limit)
            if limit >= max(cost, 1):
                assert ask(store, script, key, now + wait, PERIOD, 0, 0, limit, 0, 0, 0)[0] == 1 or cost > 1, seed
                now += wait
    assert fullest(given, PERIOD) <= limit, seed


def clocks(store, seed):
    """A clock that was ahead for a while keeps nobody out for longer than a period, and frees nothing."""
    chance, script, key = random.Random(seed), with_own_clock("rate"), f"clock-{seed}"
    now = 1_800_000_000_000_000
    judge = lambda at: ask(store, script, key, at, PERIOD, 0, 0, 2, 1, 0, 0)[0]  # noqa: E731
    ahead = chance.choice([30_000_000, 59_000_000, 61_000_000, 86_400_000_000, 365 * 86_400_000_000])
    assert judge(now) and judge(now + ahead)
    left = 0 if ahead < PERIOD else 1
    assert sum(judge(now + 1000) for _ in range(5)) == left, (seed, ahead)
    assert sum(judge(now + 1000 + PERIOD + 1_000_000) for _ in range(5)) == 2, (seed, ahead)


def quotas(store, seed, steps=200):
    """Random amounts, given back and charged: exact in each period."""
    chance, script, key = random.Random(seed), with_own_clock("quota"), f"quota-{seed}"
    limit, period = chance.randint(1, 50), 3_600_000
    now, counts, back = 1_800_000_000_000_000, {}, (0, 0)
    for _ in range(steps):
        now += chance.choice([chance.randint(0, 999), chance.randint(0, 2_000_000_000)])
        number = now // 1000 // period
        counts = {key: count for key, count in counts.items() if key >= number - 1}
        if back[1] and back[0] in counts:
            counts[back[0]] = max(counts[back[0]] - back[1], 0)
        if chance.random() < 0.1:
            amount = chance.randint(1, 5)
            ask(store, script, key, now, period, *back, "count", amount)
            counts[number] = counts.get(number, 0) + amount
            back = (0, 0)
            continue
        cost, ahead = chance.choice([0, 1, 1, 3]), chance.choice([0, 0, 4])
        admitted, ahead, remaining, wait, at = ask(store, script, key, now, period, *back, limit, cost, ahead)
        left = max(limit - counts.get(number, 0), 0)
        assert (admitted, at) == (int(left >= max(cost, 1)), number), (seed, left, cost)
        assert wait == (period - now // 1000 % period) * 1000, seed
        if admitted:
            counts[number] = counts.get(number, 0) + cost + ahead
            assert remaining == left - cost - ahead >= 0, seed
        back = (at, cost) if admitted and cost and chance.random() < 0.2 else (0, 0)


def permits(store, seed, steps=200):
    """Random permits that are given, kept, given back and forgotten: never more than there may be."""
    chance, script, key = random.Random(seed), with_own_clock("permit"), f"permit-{seed}"
    most, lives = chance.randint(1, 5), 10_000
    now, held = 1_800_000_000_000_000, {}
    for number in range(steps):
        now += chance.randint(0, 3_000_000)
        held = {permit: ends for permit, ends in held.items() if ends > now // 1000}
        what = chance.choice(["take", "take", "keep", "give"])
        if what == "take":
            admitted, count = ask(store, script, key, now, "take", f"p{number}", lives, most)
            assert (admitted, count) == (int(len(held) < most), len(held)), (seed, admitted, held)
            if admitted:
                held[f"p{number}"] = now // 1000 + lives
        elif held:
            permit = chance.choice(sorted(held))
            if what == "keep":
                ask(store, script, key, now, "keep", permit, lives)
                held[permit] = now // 1000 + lives
            else:
                # It needs no clock, so that nothing is removed from its arguments.
                store.ask("EVAL", script, 1, key, "give", permit)
                del held[permit]
