-- Ends a batch that the upstream refused as a whole, and so applied nothing of: the rows it named wait
-- as blocked, the others are open again and go at once in a batch of another id. An upstream that
-- remembers ids would only repeat the refusal of this one.
--
-- ARGV  1 holder  2 upstream  3 id  4 msgpack {numbers, from 1, of the rows that wait as blocked}
--       5 msgpack {line|host, mark…}: what is refused from now on; a mark is opaque here
-- KEYS  1 lease  2 open  3 sealed  4 ledger  5 blocked  6 refused
-- reply 1 done; 0 no such batch is sealed (a repeat): nothing changed;
--       -1 the lease is another's: nothing changed

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local rows = rows_of(KEYS[3], ARGV[3])
if not rows then return 0 end

local marks, waits = cmsgpack.unpack(ARGV[5]), {}
for _, number in ipairs(cmsgpack.unpack(ARGV[4])) do waits[number] = true end
for number, row in ipairs(rows) do
  move(KEYS[waits[number] and 5 or 2], field_of(row), row[4])
  rebook(KEYS[4], row[1], ARGV[2], 'sealed', waits[number] and 'parked' or 'open', row[4])
end
commit(KEYS[4])
store('HSET', KEYS[6], marks)
finish(KEYS[3])
return 1
