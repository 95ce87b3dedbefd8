-- Calls or bytes within a fixed period, the first of which began in 1970 (src/limits/fixed.rs), with the server's clock.
-- KEYS[1] holds the number and the count of the current period, and of the one counted before it, which becomes current again if the
-- clock is set back.
-- ARGV: period in milliseconds, number of a period and amount to give back to it; and, to take: limit, amount, amount to take ahead;
-- or, to count without judging: the word `count` and the amount.
-- Answers: admitted, taken ahead, remaining, microseconds to wait, the number of the period.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local period, back_to, back = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local current = math.floor(now / period)
local ends = period - now % period

local parts = {current, 0, 0, 0}
local text = redis.call('GET', KEYS[1])
if text then
  local index = 0
  for number in string.gmatch(text, '%d+') do
    index = index + 1
    parts[index] = tonumber(number)
  end
end
if parts[1] ~= current then
  parts = {parts[3], parts[4], parts[1], parts[2]}
  if parts[1] ~= current then parts[1], parts[2] = current, 0 end
end

local changed = false
if back > 0 then
  for index = 1, 3, 2 do
    if parts[index] == back_to then
      parts[index + 1] = math.max(parts[index + 1] - back, 0)
      changed = true
      break
    end
  end
end

local answer = {1, 0, 0, ends * 1000, current}
if ARGV[4] == 'count' then
  parts[2] = parts[2] + tonumber(ARGV[5])
  changed = true
elseif ARGV[4] then
  local limit, cost, ahead = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
  local remaining = math.max(limit - parts[2], 0)
  if remaining < math.max(cost, 1) then
    answer = {0, 0, remaining, ends * 1000, current}
  else
    ahead = math.min(ahead, remaining - cost)
    if cost + ahead > 0 then
      parts[2] = parts[2] + cost + ahead
      changed = true
    end
    answer = {1, ahead, remaining - cost - ahead, ends * 1000, current}
  end
end

if changed then
  local value = string.format('%.0f %.0f %.0f %.0f', parts[1], parts[2], parts[3], parts[4])
  -- A minute longer than the period, in case the clock is set back across its end.
  redis.call('SET', KEYS[1], value, 'PX', string.format('%.0f', ends + math.min(period, 60000)))
end
return answer
