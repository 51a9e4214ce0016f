-- apply.lua, part 2: the counters of an instance, read once per call, and how usage and seats are recorded.

local function day_of(x, at_ms)
  local days = x.days
  for i = #days - 1, 1, -1 do
    if days[i][1] <= at_ms then return days[i] end
  end
end

local function label_of(x, period)
  local entries = x.periods[period + 1]
  if #entries == 1 then return entries[1][2], 0 end
  for i = #entries - 1, 1, -1 do
    if entries[i][1] <= x.now_ms then return entries[i][2], entries[i + 1][1] end
  end
end

local function reaches(x, from_ms)
  if from_ms < x.days[1][1] or x.days[#x.days][1] <= x.now_ms then return false end
  for i = 1, #x.periods do
    local entries = x.periods[i]
    if #entries > 1 and (x.now_ms < entries[1][1] or entries[#entries][1] <= x.now_ms) then return false end
  end
  return true
end

local function open_context(c)
  local said, base = contexts[c], bases[c]
  local x = {
    instance = said[1], version = said[2], upstreams = said[3], days = said[4], periods = said[5],
    cat = KEYS[base], used = KEYS[base + 1], holds = KEYS[base + 2], lapse = KEYS[base + 3],
    seen = KEYS[base + 4], undo = KEYS[base + 5], ledger = KEYS[base + 6], due = KEYS[base + 7],
    dirty = KEYS[base + 8], open = base + 8, months = base + 8 + #said[3],
    units = {}, units_changed = {}, held = {}, held_changed = {}, undoable = {}, undoable_changed = {},
    acked = {}, acked_now = {}, rows = {}, month = {}, lapses = {}, lapse_gone = {}, keep = {}, keep_gone = {},
    hosts = {}, dropped = {}, applied = 0,
  }
  x.found_version = tonumber(redis.call('HGET', x.cat, 'version') or 0)
  local before = redis.call('HMGET', x.ledger, 'last_ms', 'seq')
  x.last_ms, x.seq = tonumber(before[1] or 0), tonumber(before[2] or 0)  -- of the transaction before this one
  x.now_ms = math.max(clock_ms, x.last_ms)
  x.done_ms = x.now_ms  -- until when all has happened once this call is over
  for i = 1, #x.upstreams do x.rows[i] = {} end
  return x
end

local function used_of(x, name)
  local units = x.units[name]
  if units == nil then
    units = tonumber(redis.call('HGET', x.used, name) or 0)
    x.units[name] = units
  end
  return units
end

local function set_used(x, name, units)
  x.units[name] = units
  x.units_changed[name] = true
end

local function unpack_holds(text)
  local held = {}
  if text then
    for _, hold in ipairs(cmsgpack.unpack(text)) do
      held[hold[1]] = {hold[2], hold[3], hold[4], hold[5] or 0, hold[6]}
    end
  end
  return held
end

local function held_by(x, host)
  local held = x.held[host]
  if held == nil then
    held = unpack_holds(redis.call('HGET', x.holds, host))
    x.held[host] = held
  end
  return held
end

local function set_held(x, host, held)
  x.held[host] = held
  x.held_changed[host] = true
end

local function acked_of(x, line)
  local units = x.acked_now[line]
  if units == nil then
    units = tonumber(redis.call('HGET', x.ledger, 'acked|' .. line) or 0)
    x.acked_now[line] = units
  end
  return units + (x.acked[line] or 0)
end

-- A consumption is four values of fixed width: first_ms, last_ms, units, and its period's label in 24 bytes.
local ENTRY = '<dddc24'
local ENTRY_BYTES = 48

local function undoable_of(x, line, host)
  local name = line .. '|' .. host
  local entries = x.undoable[name]
  if entries == nil then
    entries = {}
    local text = redis.call('HGET', x.undo, name)
    for at = 1, text and #text or 0, ENTRY_BYTES do
      local first, last, units, label = struct.unpack(ENTRY, text, at)
      entries[#entries + 1] = {first, last, units, (label:gsub('%z+$', ''))}
    end
    x.undoable[name] = entries
  end
  return entries, name
end

local function pack_entries(entries)
  local parts = {}
  for i = 1, #entries do
    local entry = entries[i]
    local label = entry[LABEL] .. string.rep('\0', 24 - #entry[LABEL])
    parts[i] = struct.pack(ENTRY, entry[FIRST], entry[LAST], entry[UNITS], label)
  end
  return table.concat(parts)
end

-- Recording

local function month_of(x, day)
  local month = x.month[day[3]]
  if not month then
    month = {add = {}, top = {}, set = {}}
    x.month[day[3]] = month
  end
  return month
end

local function record_usage(x, host, line, units, at_ms, back)
  plus(x.acked, line, units)
  local day = day_of(x, at_ms)
  local month = month_of(x, day)
  plus(month.add, line .. '|' .. day[2] .. '|u', units)
  if back > 0 then plus(month.add, line .. '|' .. day[2] .. '|b', back) end
  local row = line .. '|' .. string.format('%d', math.floor(at_ms / HOUR_MS))
  for i = 1, #x.upstreams do
    plus(x.rows[i], x.upstreams[i][2] and (row .. '|' .. host) or row, units)
  end
end

local function change_held(x, host, line, model, delta, at_ms, back)
  local name = line .. '|0'
  local before = used_of(x, name)
  set_used(x, name, before + delta)
  if model == METERED_REUSABLE then
    record_usage(x, host, line, delta, at_ms, back)
  else
    local day = day_of(x, at_ms)
    local month, prefix, after = month_of(x, day), line .. '|' .. day[2], before + delta
    local peak = prefix .. '|p'
    if at_ms == day[1] and x.last_ms <= at_ms then
      month.set[peak] = after  -- what went as the day began was not held on it
    elseif month.set[peak] then
      month.set[peak] = math.max(month.set[peak], before, after)
    else
      month.top[peak] = math.max(month.top[peak] or 0, before, after)
    end
    month.set[prefix .. '|h'] = after
  end
end
