-- Moves chosen units from open to sealed and fixes the bytes they go in: the one batch under way.
--
-- ARGV  1 holder  2 upstream  3 id  4 msgpack {{line, hour, host, units}…} (units never 0)  5 body
--       6 catalogue version that the rows were chosen by  7 instance
-- KEYS  1 lease  2 open  3 sealed  4 ledger  5 cat  6 dirty
-- reply {1, batch…} sealed; {0, batch…} a batch was sealed already, this one or another: nothing
--       changed; {-1} the lease is another's, or the catalogue is: nothing changed
--       batch… = id, rows, body, first_sent_ms or '', attempts, before or ''
-- Rows may have changed since they were read: units are moved all the same, so an open row may come
-- to less than nothing, and the ledger's equation holds.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {-1} end
-- The upstream may have been detached since, and what waited for it given up.
if redis.call('HGET', KEYS[5], 'version') ~= ARGV[6] then return {-1} end

local function batch(code)
  local found = redis.call('HMGET', KEYS[3], 'id', 'rows', 'body', 'first_sent_ms', 'attempts', 'before')
  return {code, found[1], found[2], found[3], found[4] or '', found[5], found[6] or ''}
end

local known = redis.call('HGET', KEYS[3], 'id')
if known then
  redis.call('HSET', KEYS[3], 'id', known)  -- WAITAOF speaks only for a connection that wrote
  return batch(0)
end

local rows = cmsgpack.unpack(ARGV[4])
move_rows(KEYS[2], rows, -1)
rebook_rows(KEYS[4], rows, ARGV[2], 'open', 'sealed')
commit(KEYS[4])
redis.call('HSET', KEYS[3], 'id', ARGV[3], 'rows', ARGV[4], 'body', ARGV[5], 'attempts', 0)
-- What was open may have come to nothing since it was read, and the mark have been taken away.
redis.call('SADD', KEYS[6], ARGV[7])
return batch(1)
