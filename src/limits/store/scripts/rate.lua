-- Calls within a sliding period, in the groups of the local counter (src/limits/sliding.rs), with the server's clock.
-- KEYS[1] holds: the time before which nothing can be given back, the start of the newest group, then the last time and the number of
-- each group, oldest first. Times are microseconds.
-- ARGV: period, time and number of calls to give back; and, to take calls: limit, calls, calls to take ahead, time to hold those for.
-- Answers: admitted, taken ahead, remaining, microseconds to wait, the time that the calls were counted at.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local period, back_at, back = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local group = math.floor(period / 11)

local gone, began, last, calls, used = 0, 0, {}, {}, 0
local text = redis.call('GET', KEYS[1])
if text then
  local numbers = {}
  for number in string.gmatch(text, '%d+') do numbers[#numbers + 1] = tonumber(number) end
  gone, began = numbers[1] or 0, numbers[2] or 0
  for index = 3, #numbers - 1, 2 do
    used = used + 1
    last[used], calls[used] = numbers[index], numbers[index + 1]
  end
end

-- A count further ahead than calls are ever taken was made before the clock was set back: all move with it.
local changed = false
if used > 0 and last[used] > now + group + 1000000 then
  local ahead = last[used] - now
  for index = 1, used do last[index] = math.max(last[index] - ahead, 0) end
  began, gone, changed = math.max(began - ahead, 0), now + 1, true
end

local from, count = 1, 0
while from <= used and now - last[from] >= period do
  gone, from = last[from] + 1, from + 1
end
for index = from, used do count = count + calls[index] end

-- What was counted a period ago counts no more, and cannot be taken from others.
if back > 0 and back_at >= gone and now - back_at < period then
  for index = from, used do
    if last[index] >= back_at then
      local part = math.min(back, calls[index])
      calls[index], back, count, changed = calls[index] - part, back - part, count - part, true
    end
  end
end

-- The time until this many of the counted calls expire.
local function frees(wanted)
  local freed = 0
  for index = from, used do
    freed = freed + calls[index]
    if freed >= wanted then return last[index] + period - now end
  end
  return period
end

local answer = {1, 0, 0, 0, now}
if ARGV[4] then
  local limit, cost, ahead, hold = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
  local needed = count + math.max(cost, 1)
  if needed > limit then
    answer = {0, 0, math.max(limit - count, 0), frees(needed - limit), now}
  else
    ahead = math.min(ahead, limit - count - cost)
    -- Calls that are taken ahead count as if they all came when the time to use them is over.
    local at = now
    if ahead > 0 then at = now + math.min(hold, group) else ahead = 0 end
    local taken = cost + ahead
    if taken > 0 then
      changed = true
      if used >= from and (at - began < group or used - from + 1 >= 12) then
        calls[used] = calls[used] + taken
        if at > last[used] then last[used] = at end
      else
        used = used + 1
        last[used], calls[used], began = at, taken, at
      end
      count = count + taken
    end
    answer = {1, ahead, limit - count, frees(1), at}
  end
end

if changed then
  local numbers = {string.format('%.0f %.0f', gone, began)}
  for index = from, used do numbers[#numbers + 1] = string.format('%.0f %.0f', last[index], calls[index]) end
  -- An emptied list keeps its place, for the time before which nothing can be given back.
  local lives = used >= from and last[used] + period - now or period
  redis.call('SET', KEYS[1], table.concat(numbers, ' '), 'PX', string.format('%.0f', math.ceil(lives / 1000) + 1))
end
return answer
