-- The clock of every script: the store's own. Tests of time put another prelude in its place.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
