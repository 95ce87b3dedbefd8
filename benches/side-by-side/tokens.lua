-- wrk -s tokens.lua URL -- FILE SKIP: bearer tokens from FILE in turn, one a line, from the one after SKIP.
-- Two threads begin half the file apart.
local requests, at, threads = {}, 0, 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  local headers = { ["Host"] = "localhost" }
  at = tonumber(args[2])
  for token in io.lines(args[1]) do
    headers["Authorization"] = "Bearer " .. token
    requests[#requests + 1] = wrk.format("GET", "/orders/42?x=1", headers)
  end
  at = at + number * math.floor(#requests / 2)
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
