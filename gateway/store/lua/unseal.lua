-- Gives a batch back to open, when the upstream has refused it and so applied nothing of it.
--
-- ARGV  1 holder  2 upstream  3 id
-- KEYS  1 lease  2 open  3 sealed  4 ledger
-- reply 1 given back; 0 no such batch is sealed (a repeat): nothing changed;
--       -1 the lease is another's: nothing changed
-- Its rows go again later in a batch of another id: an upstream that remembers ids remembers the
-- refusal of this one.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local batch = redis.call('HMGET', KEYS[3], 'id', 'rows')
if batch[1] ~= ARGV[3] then return 0 end

local moved, sums = {}, {}
for _, row in ipairs(cmsgpack.unpack(batch[2])) do
  local field = row[1] .. '|' .. string.format('%d', row[2])
  if row[3] ~= '' then field = field .. '|' .. row[3] end
  moved[field] = (moved[field] or 0) + row[4]
  sums[row[1]] = (sums[row[1]] or 0) + row[4]
end
-- Sums that come to 0 are left alone: minus nothing is "-0" in Lua, and no integer to the store.
local function add(key, field, units)
  if units == 0 then return nil end
  return redis.call('HINCRBY', key, field, string.format('%.0f', units))
end
for field, units in pairs(moved) do
  if add(KEYS[2], field, units) == 0 then redis.call('HDEL', KEYS[2], field) end
end
for line, units in pairs(sums) do
  local tail = '|' .. line .. '|' .. ARGV[2]
  add(KEYS[4], 'open' .. tail, units)
  add(KEYS[4], 'sealed' .. tail, -units)
end
redis.call('DEL', KEYS[3])
return 1
