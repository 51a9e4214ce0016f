-- What the outbox's scripts share: rows as fields, a plan of changes that is written at the end, and
-- the halves that wait behind a sealed batch. Every script refuses a former holder of the lease, and
-- plans all before it writes anything: a Lua error does not undo earlier writes.

local UNITS_MAX = 9007199254740991
local FIELDS_MAX = 2000

local function field_of(row)
  local field = row[1] .. '|' .. string.format('%d', row[2])
  if row[3] ~= '' then field = field .. '|' .. row[3] end
  return field
end

-- plan[key][field] = change of units
local plan = {}
local function move(key, field, units)
  local of_key = plan[key] or {}
  plan[key] = of_key
  of_key[field] = (of_key[field] or 0) + units
end

-- Move the units of a line from one place of the ledger to another.
local function rebook(ledger, line, upstream, from, to, units)
  local tail = '|' .. line .. '|' .. upstream
  move(ledger, from .. tail, -units)
  move(ledger, to .. tail, units)
end

local function rebook_rows(ledger, rows, upstream, from, to)
  for _, row in ipairs(rows) do rebook(ledger, row[1], upstream, from, to, row[4]) end
end

local function move_rows(key, rows, sign)
  for _, row in ipairs(rows) do move(key, field_of(row), sign * row[4]) end
end

local function store(command, key, list)
  for from = 1, #list, FIELDS_MAX do
    redis.call(command, key, unpack(list, from, math.min(from + FIELDS_MAX - 1, #list)))
  end
end

-- Write what was planned. Fields that come to 0 are deleted, but in the ledger: its zeros are read.
local function commit(ledger)
  local writes = {}
  for key, of_key in pairs(plan) do
    local fields, set, gone = {}, {}, {}
    for field, units in pairs(of_key) do
      if units ~= 0 then fields[#fields + 1] = field end
    end
    for from = 1, #fields, FIELDS_MAX do
      local to = math.min(from + FIELDS_MAX - 1, #fields)
      local found = redis.call('HMGET', key, unpack(fields, from, to))
      for i = from, to do
        local sum = tonumber(found[i - from + 1] or 0) + of_key[fields[i]]
        if math.abs(sum) > UNITS_MAX then error('units out of range: ' .. fields[i]) end
        if sum == 0 and key ~= ledger then
          gone[#gone + 1] = fields[i]
        else
          set[#set + 1] = fields[i]
          set[#set + 1] = sum
        end
      end
    end
    writes[#writes + 1] = {key, set, gone}
  end
  for _, write in ipairs(writes) do
    store('HSET', write[1], write[2])
    store('HDEL', write[1], write[3])
  end
end

-- The rows of the sealed batch, when it is still this one.
local function rows_of(sealed, id)
  local found = redis.call('HMGET', sealed, 'id', 'rows')
  return found[1] == id and cmsgpack.unpack(found[2]) or nil
end

-- End the sealed batch; the half that was put behind it last is the sealed one now.
local function finish(sealed)
  local halves = tonumber(redis.call('HGET', sealed, 'halves') or 0)
  if halves == 0 then
    redis.call('DEL', sealed)
    return
  end
  local names = {'id.' .. halves, 'rows.' .. halves, 'body.' .. halves}
  local half = redis.call('HMGET', sealed, unpack(names))
  redis.call('HDEL', sealed, 'first_sent_ms', 'first_attempt', 'at_ms', 'before', unpack(names))
  redis.call('HSET', sealed, 'id', half[1], 'rows', half[2], 'body', half[3], 'attempts', 0, 'halves', halves - 1)
end
