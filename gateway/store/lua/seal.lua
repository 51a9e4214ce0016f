-- Moves chosen units from open to sealed and fixes the bytes they go in: the one batch under way.
--
-- ARGV  1 holder  2 upstream  3 id  4 msgpack {{line, hour, host, units}…} (units never 0)  5 body
-- KEYS  1 lease  2 open  3 sealed  4 ledger
-- reply {1, batch…} sealed; {0, batch…} a batch was sealed already, this one or another: nothing
--       changed; {-1} the lease is another's: nothing changed
--       batch… = id, rows, body, first_sent_ms or '', attempts
-- Rows may have changed since they were read: units are moved all the same, so an open row may come
-- to less than nothing, and the ledger's equation holds.

local UNITS_MAX = 9007199254740991
local FIELDS_MAX = 2000

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {-1} end

local function batch(code)
  local found = redis.call('HMGET', KEYS[3], 'id', 'rows', 'body', 'first_sent_ms', 'attempts')
  return {code, found[1], found[2], found[3], found[4] or '', found[5]}
end

local known = redis.call('HGET', KEYS[3], 'id')
if known then
  redis.call('HSET', KEYS[3], 'id', known)  -- WAITAOF speaks only for a connection that wrote
  return batch(0)
end

local moved, sums, fields, lines = {}, {}, {}, {}
local function plus(map, list, name, units)
  if not map[name] then list[#list + 1] = name end
  map[name] = (map[name] or 0) + units
end
for _, row in ipairs(cmsgpack.unpack(ARGV[4])) do
  local field = row[1] .. '|' .. string.format('%d', row[2])
  if row[3] ~= '' then field = field .. '|' .. row[3] end
  plus(moved, fields, field, row[4])
  plus(sums, lines, row[1], row[4])
end

local set, gone, entries = {}, {}, {}
local function change(list, name, found, delta)
  local sum = tonumber(found or 0) + delta
  if math.abs(sum) > UNITS_MAX then error('units out of range: ' .. name) end
  list[#list + 1] = name
  list[#list + 1] = sum
  return sum
end
for from = 1, #fields, FIELDS_MAX do
  local to = math.min(from + FIELDS_MAX - 1, #fields)
  local found = redis.call('HMGET', KEYS[2], unpack(fields, from, to))
  for i = from, to do
    if change(set, fields[i], found[i - from + 1], -moved[fields[i]]) == 0 then
      set[#set], set[#set - 1] = nil, nil
      gone[#gone + 1] = fields[i]
    end
  end
end
for _, line in ipairs(lines) do
  local tail = '|' .. line .. '|' .. ARGV[2]
  local found = redis.call('HMGET', KEYS[4], 'open' .. tail, 'sealed' .. tail)
  change(entries, 'open' .. tail, found[1], -sums[line])
  change(entries, 'sealed' .. tail, found[2], sums[line])
end

local function store(command, key, list)
  for from = 1, #list, FIELDS_MAX do
    redis.call(command, key, unpack(list, from, math.min(from + FIELDS_MAX - 1, #list)))
  end
end
store('HSET', KEYS[2], set)
store('HDEL', KEYS[2], gone)
store('HSET', KEYS[4], entries)
redis.call('HSET', KEYS[3], 'id', ARGV[3], 'rows', ARGV[4], 'body', ARGV[5], 'attempts', 0)
return batch(1)
