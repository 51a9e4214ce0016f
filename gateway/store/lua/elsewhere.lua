-- Notes what other servers consumed of lines, as the cloud that sells the lines tells it.
--
-- ARGV  1 holder  2 instance  3 msgpack {{line, period label, units, until_ms}…}; units may be below 0;
--       until_ms: when what is known of that period is forgotten, 0: never
-- KEYS  1 lease  2 used  3 lapse  4 due
-- reply 1 noted; -1 the lease is another's: nothing changed
-- Units are set, not added: a repeat changes nothing more.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end

for _, each in ipairs(cmsgpack.unpack(ARGV[3])) do
  local period, units, until_ms = each[1] .. '|' .. each[2], each[3], each[4]
  if units == 0 then
    redis.call('HDEL', KEYS[2], 'elsewhere|' .. period)
  else
    redis.call('HSET', KEYS[2], 'elsewhere|' .. period, units)
  end
  if until_ms > 0 then redis.call('ZADD', KEYS[3], 'GT', until_ms, 'p|' .. period) end
end
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if first[2] then redis.call('ZADD', KEYS[4], first[2], ARGV[2]) end
return 1
