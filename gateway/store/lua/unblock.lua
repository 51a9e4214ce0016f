-- Ends the waiting of blocked rows: they are open again, or a person has given them up.
--
-- ARGV  1 holder, '' for a person  2 'open' | 'dead'  3 instance  4 upstream
--       5 msgpack {fields of the rows}  6 msgpack {line|host, mark…}: marks that are taken away,
--       unless another was made since
--       7 msgpack {name, value…} for the record of decisions; empty for a forwarder
-- KEYS  1 lease  2 blocked  3 refused  4 open  5 ledger  6 dirty  7 record
-- reply 1 done; 0 none of the rows waits (any more): only the marks are taken away, and nothing is
--       recorded; -1 the lease is another's: nothing changed

if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end

local fields, marks = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])
local decision, sums, waited = cmsgpack.unpack(ARGV[7]), {}, false
for from = 1, #fields, FIELDS_MAX do
  local to = math.min(from + FIELDS_MAX - 1, #fields)
  local found = redis.call('HMGET', KEYS[2], unpack(fields, from, to))
  for i = from, to do
    local units = tonumber(found[i - from + 1] or 0)
    waited = waited or units ~= 0
    move(KEYS[2], fields[i], -units)
    if ARGV[2] == 'open' then move(KEYS[4], fields[i], units) end
    local line = string.match(fields[i], '^[^|]*')
    rebook(KEYS[5], line, ARGV[4], 'parked', ARGV[2], units)
    sums[line] = (sums[line] or 0) + units
  end
end
local gone = {}
for i = 1, #marks, 2 do
  if redis.call('HGET', KEYS[3], marks[i]) == marks[i + 1] then gone[#gone + 1] = marks[i] end
end
commit(KEYS[5])
store('HDEL', KEYS[3], gone)
redis.call('SADD', KEYS[6], ARGV[3])
if #decision > 0 and waited then note(KEYS[7], decision, sums) end
return waited and 1 or 0
