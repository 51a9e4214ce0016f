-- Counts the log-ins of a name or an address: which are under way, and how many failed in one window.
--
-- ARGV  1 'begin' | 'fail' | 'clear' | 'return'  2 id of the attempt  3 most, of both together
--       4 window_ms, from the first failure on  5 lapse_ms: how long an attempt may be under way
-- KEYS  1 logins  2 attempts under way
-- reply begin: 0 under way, or in how many ms there may be another one: it was not counted; else 0
-- It is counted before the password is looked at: of a thousand guesses at once no more are looked at
-- than may be. Those under way are soon over, and whether they fail is not known: they alone keep
-- nobody out for longer than that. One whose end is never told has failed. A repeat changes nothing
-- more, because only an attempt that is under way can end.

local function failed(attempts)
  if attempts == 0 then return end
  redis.call('INCRBY', KEYS[1], attempts)
  if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
end

if ARGV[1] ~= 'begin' then
  if redis.call('ZREM', KEYS[2], ARGV[2]) == 1 then
    if ARGV[1] == 'fail' then failed(1) end
    if ARGV[1] == 'clear' then redis.call('DEL', KEYS[1]) end
  end
  return 0
end

if redis.call('ZSCORE', KEYS[2], ARGV[2]) then return 0 end
local clock_ms, most = now(), tonumber(ARGV[3])
failed(redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', clock_ms))
local count = tonumber(redis.call('GET', KEYS[1]) or 0)
if count >= most then return math.max(1, redis.call('PTTL', KEYS[1])) end
if count + redis.call('ZCARD', KEYS[2]) >= most then return 1 end
redis.call('ZADD', KEYS[2], clock_ms + ARGV[5], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[4] + ARGV[5])
return 0
