-- Notes an attempt to send the sealed batch, before its first byte; or that an attempt had no effect.
--
-- ARGV  1 'begin' | 'clear'  2 holder  3 id  4 number of the attempt, from 1
--       5 horizon_ms: how long the upstream remembers an id; 0: it does not ('begin' only)
--       6 what the upstream had before, in words of its kind; '' where it was not asked ('begin' only)
-- KEYS  1 lease  2 sealed  3 ledger
-- reply 1 done; 0 no such batch, or another attempt was noted meanwhile; -1 the lease is another's;
--       -2 an earlier attempt may have been applied and is forgotten upstream. Only 1 changes anything,
--       and a repeat of the same attempt changes nothing more.
-- first_sent_ms is the beginning of the earliest attempt in doubt, first_attempt its number: an
-- attempt that is cleared takes them away only when no earlier one is in doubt. at_ms is when the
-- latest began: a clock that has gone back since then, or since the last request, no longer tells for
-- how long it is in doubt.

if redis.call('GET', KEYS[1]) ~= ARGV[2] then return -1 end
local found = redis.call('HMGET', KEYS[2], 'id', 'attempts', 'first_sent_ms', 'first_attempt', 'at_ms')
if found[1] ~= ARGV[3] then return 0 end
local attempts, number = tonumber(found[2]), tonumber(ARGV[4])

if ARGV[1] == 'clear' then
  if attempts ~= number then return 0 end
  if found[4] == ARGV[4] then redis.call('HDEL', KEYS[2], 'first_sent_ms', 'first_attempt') end
  return 1
end

if attempts ~= number then
  if attempts ~= number - 1 then return 0 end
  local clock_ms = now()
  if found[3] then
    local doubt_ms = clock_ms - tonumber(found[3])
    local known_ms = math.max(tonumber(found[5]), tonumber(redis.call('HGET', KEYS[3], 'last_ms') or 0))
    if doubt_ms >= tonumber(ARGV[5]) or clock_ms < known_ms then return -2 end
  else
    redis.call('HSET', KEYS[2], 'first_sent_ms', clock_ms, 'first_attempt', number)
  end
  redis.call('HSET', KEYS[2], 'at_ms', clock_ms)
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[2], 'before', ARGV[6]) end
end
redis.call('HSET', KEYS[2], 'attempts', number)  -- on a repeat too, for WAITAOF's sake
return 1
