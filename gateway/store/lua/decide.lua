-- Carries out what a person, or a receipt, says of a batch that was set aside.
--
-- ARGV  1 'open': it goes again, under another id | 'forwarded': it did arrive | 'dead': it is given up
--       2 instance  3 upstream  4 id  5 msgpack {name, value…} for the record of decisions
-- KEYS  1 aside  2 open  3 ledger  4 dirty  5 record
-- reply 1 done; 0 no such batch is set aside (any more): nothing changed

local found = redis.call('HMGET', KEYS[1], ARGV[4] .. '|facts', ARGV[4] .. '|rows')
if not found[1] then return 0 end
local standing, rows = cmsgpack.unpack(found[1])[1], cmsgpack.unpack(found[2])
local decision, sums = cmsgpack.unpack(ARGV[5]), {}
for _, row in ipairs(rows) do sums[row[1]] = (sums[row[1]] or 0) + row[4] end

if ARGV[1] == 'open' then move_rows(KEYS[2], rows, 1) end
rebook_rows(KEYS[3], rows, ARGV[3], standing, ARGV[1])
commit(KEYS[3])
redis.call('HDEL', KEYS[1], ARGV[4] .. '|facts', ARGV[4] .. '|rows', ARGV[4] .. '|body')
if ARGV[1] == 'open' then redis.call('SADD', KEYS[4], ARGV[2]) end
note(KEYS[5], decision, sums)
return 1
