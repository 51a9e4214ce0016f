-- Takes the sealed batch out of the lane, so that newer usage passes, and keeps it for a decision.
--
-- ARGV  1 holder  2 upstream  3 id  4 'parked' | 'dead'  5 why  6 most batches kept
-- KEYS  1 lease  2 sealed  3 ledger  4 aside
-- reply 1 done; 0 no such batch is sealed (a repeat): nothing changed; -1 the lease is another's:
--       nothing changed; -3 so many are kept already: nothing changed
-- A batch that is kept has the fields <id>|rows, <id>|body and <id>|facts: msgpack {standing, why,
-- when, first_sent_ms or 0, attempts}.

local FIELDS = 3
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local rows = rows_of(KEYS[2], ARGV[3])
if not rows then return 0 end
if redis.call('HLEN', KEYS[4]) >= FIELDS * tonumber(ARGV[6]) then return -3 end

local found = redis.call('HMGET', KEYS[2], 'rows', 'body', 'first_sent_ms', 'attempts')
local facts = cmsgpack.pack({ARGV[4], ARGV[5], now(), tonumber(found[3] or 0), tonumber(found[4])})
rebook_rows(KEYS[3], rows, ARGV[2], 'sealed', ARGV[4])
commit(KEYS[3])
redis.call('HSET', KEYS[4], ARGV[3] .. '|facts', facts, ARGV[3] .. '|rows', found[1], ARGV[3] .. '|body', found[2])
finish(KEYS[2])
return 1
