-- Puts two halves in the place of a batch that the upstream does not take: one is the sealed batch
-- now, the other waits behind it. Both are fixed, ids and bytes.
--
-- ARGV  1 holder  2 id  3 first half: id  4 rows  5 body  6 second half: id  7 rows  8 body
-- KEYS  1 lease  2 sealed
-- reply 1 split; 0 no such batch is sealed (a repeat): nothing changed;
--       -1 the lease is another's: nothing changed
-- Units do not move: the two come to what the one was, or it is an error and nothing changed.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local rows = rows_of(KEYS[2], ARGV[2])
if not rows then return 0 end

local left = {}
local function count(rows, sign)
  for _, row in ipairs(rows) do
    local field = field_of(row)
    left[field] = (left[field] or 0) + sign * row[4]
  end
end
count(rows, 1)
count(cmsgpack.unpack(ARGV[4]), -1)
count(cmsgpack.unpack(ARGV[7]), -1)
for field, units in pairs(left) do
  if units ~= 0 then error('the halves are not the whole: ' .. field) end
end

local halves = tonumber(redis.call('HGET', KEYS[2], 'halves') or 0) + 1
redis.call('HDEL', KEYS[2], 'first_sent_ms', 'first_attempt', 'at_ms', 'before')
redis.call('HSET', KEYS[2], 'id', ARGV[3], 'rows', ARGV[4], 'body', ARGV[5], 'attempts', 0, 'halves', halves,
  'id.' .. halves, ARGV[6], 'rows.' .. halves, ARGV[7], 'body.' .. halves, ARGV[8])
return 1
