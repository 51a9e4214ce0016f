-- Counts the log-ins of a name or an address that failed or are under way, in one window of time.
--
-- ARGV  1 'begin' | 'return' | 'clear'  2 most in a window  3 window_ms, from the first one on
-- KEYS  1 logins
-- reply begin: 0 counted, or in how many ms there may be another one: nothing changed; else 0
-- It is counted before the password is looked at, and given back when that was right: of a thousand
-- guesses at once no more are looked at than may be. A repeat of 'begin' would count once more, which
-- errs on the strict side.

local count = tonumber(redis.call('GET', KEYS[1]) or 0)
if ARGV[1] == 'begin' then
  local left_ms = redis.call('PTTL', KEYS[1])
  if count >= tonumber(ARGV[2]) and left_ms > 0 then return left_ms end
  if left_ms > 0 then
    redis.call('INCR', KEYS[1])
  else
    redis.call('SET', KEYS[1], 1, 'PX', ARGV[3])
  end
elseif ARGV[1] == 'return' and count > 1 then
  redis.call('DECR', KEYS[1])
else
  redis.call('DEL', KEYS[1])
end
return 0
