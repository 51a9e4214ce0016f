-- Reads when an instance is to be synced with an upstream, and the time by which that is judged.
--
-- ARGV  names of fields
-- KEYS  1 sync
-- reply {now_ms, value…}

local reply = redis.call('HMGET', KEYS[1], unpack(ARGV))
table.insert(reply, 1, now())
return reply
