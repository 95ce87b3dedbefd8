-- Concurrent calls: a sorted set of permits by the time they end, with the server's clock.
-- ARGV: `take`, `keep` or `give`, the permit, milliseconds until it ends unless it is kept; and, to take one, how many there may be.
-- Answers: admitted, the number of other permits.
if ARGV[1] == 'give' then
  redis.call('ZREM', KEYS[1], ARGV[2])
  return {1, 0}
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lives = tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local count = redis.call('ZCARD', KEYS[1])
if ARGV[1] == 'take' and count >= tonumber(ARGV[4]) then return {0, count} end
-- One that is kept may be gone, as after a failover: its call is still there.
redis.call('ZADD', KEYS[1], string.format('%.0f', now + lives), ARGV[2])
if redis.call('PTTL', KEYS[1]) < lives then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', lives)) end
return {1, count}
