-- Writes the next version of a catalogue.
--
-- ARGV  1 instance  2 version it was made from (0: none)  3 blob
--       4 msgpack {line -> expiry_ms or 0}: all reusable lines  8 msgpack {lines whose expiry came nearer}
--       5 msgpack {metered line ids}  6 msgpack {upstreams newly attached}  7 msgpack {upstreams detached}
--       9 msgpack {upstream detached -> {name, value…} for the record, when a person gives up its usage}
-- KEYS  1 cat  2 ledger  3 instances  4 record
--       then open, sealed, blocked, aside and refused of each upstream detached
-- reply the new version, or -(version found) - 1 when another was written meanwhile, or the name of an
--       upstream that would be detached while usage waits for it; nothing changed in either case
-- What is given up with an upstream that is detached is dead from now on, on the ledger as anywhere.
-- An upstream that is attached starts from this moment: its baseline is what was acked before, less
-- what an earlier attachment of it has already accounted for.

local clock_ms = now()
local found = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if found ~= tonumber(ARGV[2]) then return -found - 1 end

-- A hold lapses no earlier than now: what is past is recorded, and stays so. A cut that is still
-- pending follows the new catalogue, or it would reach holds that were granted under it.
local now_ms = math.max(clock_ms, tonumber(redis.call('HGET', KEYS[2], 'last_ms') or 0))
local expiries, cut = cmsgpack.unpack(ARGV[4]), {}
local function cut_to(line)
  local at_ms = expiries[line] or 0
  if at_ms > 0 then cut[line] = math.max(at_ms, now_ms) end
end
local pending = redis.call('HGET', KEYS[1], 'cut')
if pending then
  for line in pairs(cmsgpack.unpack(pending)) do cut_to(line) end
end
for _, line in ipairs(cmsgpack.unpack(ARGV[8])) do cut_to(line) end

local lines, upstreams = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])
local discarded, entries, gone = cmsgpack.unpack(ARGV[9]), {}, {}
for i, upstream in ipairs(cmsgpack.unpack(ARGV[7])) do
  local first = 5 * i
  local given_up = redis.call('EXISTS', unpack(KEYS, first, first + 3)) > 0 and discarded[upstream]
  if given_up == nil then return upstream end
  local told = {}
  gone[#gone + 1] = {first, given_up, told}
  if given_up then
    for _, line in ipairs(lines) do
      local tail = '|' .. line .. '|' .. upstream
      local found = redis.call('HMGET', KEYS[2], 'dead' .. tail, 'open' .. tail, 'sealed' .. tail, 'parked' .. tail)
      local dead = 0
      for j = 1, 4 do dead = dead + tonumber(found[j] or 0) end
      local units = dead - tonumber(found[1] or 0)
      if units ~= 0 then told[#told + 1] = line .. '=' .. string.format('%.0f', units) end
      if units ~= 0 or found[2] then
        entries[#entries + 1] = {'dead' .. tail, dead, 'open' .. tail, 0, 'sealed' .. tail, 0, 'parked' .. tail, 0}
      end
    end
  end
end
local baselines = {}
for _, upstream in ipairs(upstreams) do
  for _, line in ipairs(lines) do
    local tail = line .. '|' .. upstream
    local values = redis.call('HMGET', KEYS[2], 'acked|' .. line, 'forwarded|' .. tail, 'dead|' .. tail,
      'parked|' .. tail, 'open|' .. tail, 'sealed|' .. tail, 'base|' .. tail)
    local base = tonumber(values[1] or 0)
    for i = 2, 6 do base = base - tonumber(values[i] or 0) end
    -- What an earlier attachment began from must not stay, also when this one begins from nothing.
    if base ~= 0 or values[7] then baselines[#baselines + 1] = {'base|' .. tail, base} end
  end
end

redis.call('HSETNX', KEYS[2], 'since_ms', clock_ms)
for _, entry in ipairs(entries) do redis.call('HSET', KEYS[2], unpack(entry)) end
for _, each in ipairs(gone) do
  redis.call('DEL', unpack(KEYS, each[1], each[1] + 4))
  if each[2] then redis.call('XADD', KEYS[4], '*', 'units', table.concat(each[3], ' '), unpack(each[2])) end
end
for _, each in ipairs(baselines) do redis.call('HSET', KEYS[2], each[1], each[2]) end
redis.call('HSET', KEYS[1], 'version', found + 1, 'blob', ARGV[3])
if next(cut) then
  redis.call('HSET', KEYS[1], 'cut', cmsgpack.pack(cut))
else
  redis.call('HDEL', KEYS[1], 'cut')
end
redis.call('SADD', KEYS[3], ARGV[1])
return found + 1
