-- Folds what some lines have of one month of days into that month: the days go, what they come to stays.
--
-- ARGV  1 month, yyyymm  2 msgpack {{line, {fields of days:<month>…}}…}: all that was found of these lines
-- KEYS  1 days of the month  2 the month  3 ledger
-- reply how many lines were moved; 0 is a repeat, or lines that cannot be moved: nothing changed
-- Units, units given back and denials are added to what was folded before, peaks are the greatest, seats
-- held are those of the latest day: what is recorded of a month that was folded, by a lapse that is swept
-- late, came after all that is in it. A line whose sum could not be told exactly any more stays in days.
-- ledger `folds` grows with every call that moves something, which is how a reader learns of it; `folded` is
-- the last month that anything was moved to.

local UNITS_MAX = 9007199254740991
local FIELDS_MAX = 2000

local month, lines = ARGV[1], cmsgpack.unpack(ARGV[2])

-- What the days of a line come to, by kind, and which fields they were.
local function come_to(fields)
  local sums, there, last = {}, {}, ''
  local found = redis.call('HMGET', KEYS[1], unpack(fields))
  for i = 1, #fields do
    local value = tonumber(found[i] or nil)
    if value then
      there[#there + 1] = fields[i]
      local day, kind = string.match(fields[i], '^[^|]*|(%d+)|(.*)$')
      if kind == 'p' then
        sums.p = math.max(sums.p or 0, value)
      elseif kind ~= 'h' then
        sums[kind] = (sums[kind] or 0) + value
      elseif last <= day then
        last, sums.h = day, value
      end
    end
  end
  return sums, there
end

-- Join them to what was folded before; nil when a sum is out of range.
local function join(line, sums)
  local kinds, names, set = {}, {}, {}
  for kind in pairs(sums) do
    kinds[#kinds + 1] = kind
    names[#names + 1] = line .. '|' .. month .. '|' .. kind
  end
  local before = redis.call('HMGET', KEYS[2], unpack(names))
  for i, kind in ipairs(kinds) do
    local value, old = sums[kind], tonumber(before[i] or nil)
    if old and kind == 'p' then
      value = math.max(value, old)
    elseif old and kind ~= 'h' then
      value = value + old
    end
    if math.abs(value) > UNITS_MAX then return nil end
    set[#set + 1] = names[i]
    set[#set + 1] = string.format('%.0f', value)
  end
  return set
end

local function append(list, more)
  for i = 1, #more do list[#list + 1] = more[i] end
end

local function store(command, key, list)
  for from = 1, #list, FIELDS_MAX do
    redis.call(command, key, unpack(list, from, math.min(from + FIELDS_MAX - 1, #list)))
  end
end

local set, gone, moved = {}, {}, 0
for _, each in ipairs(lines) do
  local line, fields = each[1], each[2]
  local sums, there = come_to(fields)
  local joined = #there > 0 and join(line, sums)
  if joined then
    append(set, joined)
    append(gone, there)
    moved = moved + 1
  end
end
if moved > 0 then
  store('HSET', KEYS[2], set)
  store('HDEL', KEYS[1], gone)
  redis.call('HINCRBY', KEYS[3], 'folds', 1)
  local last = tonumber(redis.call('HGET', KEYS[3], 'folded') or 0)
  if tonumber(month) > last then redis.call('HSET', KEYS[3], 'folded', month) end
end
return moved
