-- Ends a batch that the upstream has granted: its units are forwarded.
--
-- ARGV  1 holder  2 upstream  3 id
-- KEYS  1 lease  2 sealed  3 ledger
-- reply 1 settled; 0 no such batch is sealed (a repeat): nothing changed;
--       -1 the lease is another's: nothing changed

local UNITS_MAX = 9007199254740991

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local batch = redis.call('HMGET', KEYS[2], 'id', 'rows')
if batch[1] ~= ARGV[3] then return 0 end

local sums, lines = {}, {}
for _, row in ipairs(cmsgpack.unpack(batch[2])) do
  if not sums[row[1]] then lines[#lines + 1] = row[1] end
  sums[row[1]] = (sums[row[1]] or 0) + row[4]
end
local entries = {}
for _, line in ipairs(lines) do
  local tail = '|' .. line .. '|' .. ARGV[2]
  local found = redis.call('HMGET', KEYS[3], 'sealed' .. tail, 'forwarded' .. tail)
  local forwarded = tonumber(found[2] or 0) + sums[line]
  if math.abs(forwarded) > UNITS_MAX then error('units out of range: ' .. line) end
  entries[#entries + 1] = {'sealed' .. tail, tonumber(found[1] or 0) - sums[line], 'forwarded' .. tail, forwarded}
end
for _, entry in ipairs(entries) do redis.call('HSET', KEYS[3], unpack(entry)) end
redis.call('DEL', KEYS[2])
return 1
