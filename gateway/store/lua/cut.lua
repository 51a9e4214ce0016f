-- Brings nearer the lapse of holds whose line now expires earlier: one bounded step of a walk.
--
-- ARGV  1 instance  2 cursor ("0" to begin)  3 what the walk goes by, as replied ("" to begin)
-- KEYS  1 cat  2 holds  3 lapse  4 due
-- reply {next cursor, what the walk goes by}; cursor "0": the walk is over, or there is nothing to cut.
--       It goes by the catalogue's version and by this process. Under another version it begins anew,
--       since other lines may be to cut; in another process too, where the cursor is another place.
-- A hold that is not walked over yet only counts as held for longer: never over capacity. The lines to
-- cut stay in the catalogue's hash until a whole walk is over, so that whoever finds them can walk again.

local STEP = 200
local found = redis.call('HMGET', KEYS[1], 'cut', 'version')
local pending, version = found[1], found[2]
if not pending then return {'0', version or ''} end
local cut = cmsgpack.unpack(pending)
local walk = version .. ' ' .. string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local cursor = ARGV[3] == walk and ARGV[2] or '0'
local step = redis.call('HSCAN', KEYS[2], cursor, 'COUNT', STEP)
local list = step[2]
for i = 1, #list, 2 do
  local holds, changed, next_ms = cmsgpack.unpack(list[i + 1]), false, nil
  for _, hold in ipairs(holds) do
    local at_ms = cut[hold[1]]
    if at_ms and (hold[3] == 0 or hold[3] > at_ms) then
      hold[3] = at_ms
      changed = true
    end
    if hold[3] > 0 and (not next_ms or hold[3] < next_ms) then next_ms = hold[3] end
  end
  if changed then
    redis.call('HSET', KEYS[2], list[i], cmsgpack.pack(holds))
    redis.call('ZADD', KEYS[3], next_ms, list[i])
  end
end
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if first[2] then redis.call('ZADD', KEYS[4], first[2], ARGV[1]) end
if step[1] == '0' then redis.call('HDEL', KEYS[1], 'cut') end
return {step[1], walk}
