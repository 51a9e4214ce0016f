-- Reads what an upstream refuses for now, and the time by which that is judged.
--
-- KEYS  1 refused
-- reply {now_ms, line|host, mark…}

local reply = redis.call('HGETALL', KEYS[1])
table.insert(reply, 1, now())
return reply
