-- Decides and writes access requests: the only script that changes a count.
--
-- ARGV[1]  msgpack {contexts, bases, tables, asks}; contexts, tables as in core/calls.py;
--          an ask is {context, key, ttl_ms, fingerprint, echo, host, flags, wants}, indexes from 1, key 0: none
-- KEYS     per context, from its base on: cat used holds lapse seen undo ledger due dirty,
--          then open:<upstream> per upstream, then days:<month> per month of its calendar;
--          and one d:<id> per ask that has an id
-- reply    msgpack {clock_ms, {verdict, …} per ask, {verdict, …} per context}; verdicts as in core/calls.py:
--          0 {outcome or preview}  1 {outcome, echo}  2 {}  3 {version}  4 {from_ms, now_ms}  5 {}
-- errors   none of its own; out of memory refuses before the first line, and all writes stand at the end,
--          because a Lua error would not undo them.
-- The executable specification is core/ledger.py; names are the same. now() comes from a prelude.

local INCREMENTAL, PARTIAL, PREVIEW = 1, 2, 4
local DONE, REPLAYED, MISMATCH, STALE, CALENDAR, AGAIN = 0, 1, 2, 3, 4, 5
local METERED, METERED_REUSABLE, CONCURRENT = 0, 1, 2
local UNITS_MAX = 9007199254740991
local UNDO_BUCKETS = 1024
local SWEEP_MAX = 256     -- members of the lapse set looked at in one call
local FIELDS_MAX = 2000   -- in one HMGET or HSET: unpack fails near 8,000 values
local HOUR_MS = 3600000

local ID, CAPACITY, STARTS, EXPIRES, FIT, SELECTED, RETIRED, INTERVAL, PERIOD, UNDO = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local COUNT, LAPSES, MODEL = 1, 2, 3                       -- of a hold
local FIRST, LAST, UNITS, LABEL = 1, 2, 3, 4               -- of a consumption

local clock_ms = now()
local call = cmsgpack.unpack(ARGV[1])
local contexts, bases, tables, asks = call[1], call[2], call[3], call[4]
local sweeps_left = SWEEP_MAX

local function fetch(key, fields)
  local found = {}
  for from = 1, #fields, FIELDS_MAX do
    local to = math.min(from + FIELDS_MAX - 1, #fields)
    local values = redis.call('HMGET', key, unpack(fields, from, to))
    for i = from, to do found[fields[i]] = values[i - from + 1] end
  end
  return found
end

local function store(command, key, list, ...)
  for from = 1, #list, FIELDS_MAX do
    local head = {...}
    for i = from, math.min(from + FIELDS_MAX - 1, #list) do head[#head + 1] = list[i] end
    redis.call(command, key, unpack(head))
  end
end

local function names(map)
  local list = {}
  for name in pairs(map) do list[#list + 1] = name end
  return list
end

-- Add deltas to the integers of a hash; fields that come to 0 are removed when `sparse`.
local function add(key, deltas, sparse)
  local fields = names(deltas)
  if #fields == 0 then return end
  local found, set, gone = fetch(key, fields), {}, {}
  for i = 1, #fields do
    local name = fields[i]
    local sum = (tonumber(found[name] or 0)) + deltas[name]
    if sum == 0 and sparse then
      gone[#gone + 1] = name
    else
      set[#set + 1] = name
      set[#set + 1] = sum
    end
  end
  store('HSET', key, set)
  store('HDEL', key, gone)
end

local function plus(map, name, units) map[name] = (map[name] or 0) + units end

-- Contexts -----------------------------------------------------------------------------------------------------

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
    hosts = {}, applied = 0,
  }
  x.found_version = tonumber(redis.call('HGET', x.cat, 'version') or 0)
  x.now_ms = math.max(clock_ms, tonumber(redis.call('HGET', x.ledger, 'last_ms') or 0))
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
    for _, hold in ipairs(cmsgpack.unpack(text)) do held[hold[1]] = {hold[2], hold[3], hold[4]} end
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

-- Recording ------------------------------------------------------------------------------------------------------

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
    local month, prefix = month_of(x, day), line .. '|' .. day[2]
    month.top[prefix .. '|p'] = math.max(month.top[prefix .. '|p'] or 0, before, before + delta)
    month.set[prefix .. '|h'] = before + delta
  end
end

-- Lapses ---------------------------------------------------------------------------------------------------------

-- Look at what is due without changing anything; returns the earliest moment that the calendar must reach.
local function find_due(x)
  local from_ms = x.now_ms
  x.lapsed, x.forget = {}, {}
  local limit = math.max(sweeps_left, 1)
  local due = redis.call('ZRANGEBYSCORE', x.lapse, '-inf', x.now_ms, 'WITHSCORES', 'LIMIT', 0, limit)
  local count = #due / 2
  if count == 0 then return from_ms end
  if sweeps_left == 0 then
    x.again = true
    return from_ms
  end
  sweeps_left = sweeps_left - count
  local until_ms = x.now_ms
  if count == limit then
    x.again = true
    until_ms = tonumber(due[#due])  -- a host found here may hold more that lapses after one not found yet
  end
  for i = 1, #due, 2 do
    local member = due[i]
    local kind = member:sub(1, 2)
    if kind == 'u|' or kind == 'p|' then
      x.forget[#x.forget + 1] = member
    else
      for line, hold in pairs(held_by(x, member)) do
        if hold[LAPSES] > 0 and hold[LAPSES] <= until_ms then
          x.lapsed[#x.lapsed + 1] = {hold[LAPSES], line, member, hold}
          from_ms = math.min(from_ms, hold[LAPSES])
        end
      end
      x.held_changed[member] = true  -- written back even when nothing lapsed, so that its score is true
    end
  end
  return from_ms
end

local function sweep(x)
  table.sort(x.lapsed, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[3] < b[3]
  end)
  for _, each in ipairs(x.lapsed) do
    local at_ms, line, host, hold = each[1], each[2], each[3], each[4]
    held_by(x, host)[line] = nil
    change_held(x, host, line, hold[MODEL], -hold[COUNT], at_ms, hold[COUNT])
  end
  for _, member in ipairs(x.forget) do
    local name = member:sub(3)
    x.keep_gone[#x.keep_gone + 1] = member
    if member:sub(1, 1) == 'u' then
      x.undoable[name] = {}
      x.undoable_changed[name] = 0
    else
      x.units[name] = nil
      x.units_changed[name] = nil
      x.forget_used = x.forget_used or {}
      x.forget_used[#x.forget_used + 1] = name
    end
  end
end

-- One request ----------------------------------------------------------------------------------------------------

local function candidates(rows, place, now_ms)
  local found, n = {}, 0
  local live, fits, started, unexpired = false, false, false, false
  for i = 1, #rows do
    local row = rows[i]
    if not row[RETIRED] then
      live = true
      if row[FIT] > 0 and row[FIT] <= place then
        fits = true
        if row[STARTS] <= now_ms then
          started = true
          if row[EXPIRES] == 0 or now_ms < row[EXPIRES] then
            unexpired = true
            if row[SELECTED] then
              n = n + 1
              found[n] = row
            end
          end
        end
      end
    end
  end
  if n > 0 then return found, nil end
  if not live then return found, 'FEATURE_NOT_FOUND' end
  if not fits then return found, 'VERSION_TOO_HIGH' end
  if not started then return found, 'LICENSE_NOT_YET_VALID' end
  if not unexpired then return found, 'LICENSE_LAPSED' end
  return found, 'DENIED_BY_POLICY'
end

local function room(x, moved, row)
  local gone = moved[row[ID]] or 0
  local free = row[CAPACITY] - used_of(x, row.name) - gone
  if row[PERIOD] > 0 then  -- used starts again with each period, a line's life does not
    free = math.min(free, UNITS_MAX - acked_of(x, row[ID]) - gone)
  end
  return math.max(0, free)
end

local function short(t, want, code, asked, available, rows)
  t.shortfalls[#t.shortfalls + 1] = {want, code, asked, available}
  local line = ''
  for i = 1, #rows do
    if not rows[i][RETIRED] then
      line = rows[i][ID]
      break
    end
  end
  t.denials[#t.denials + 1] = line .. '|' .. t.day[2] .. '|d:' .. code
end

local function grant(t, line, units)
  if not t.grants[line] then t.granted[#t.granted + 1] = line end
  plus(t.grants, line, units)
end

local function any_held(t, rows)
  for i = 1, #rows do
    if t.held[rows[i][ID]] then return true end
  end
  return false
end

local function take(x, t, model, rows, place, units, want)
  local found, code = candidates(rows, place, x.now_ms)
  local left = units
  for i = 1, #found do
    local row = found[i]
    local line = row[ID]
    local taken = math.min(left, room(x, t.moved, row))
    if taken > 0 then
      left = left - taken
      plus(t.moved, line, taken)
      if model == METERED then
        grant(t, line, taken)
      else
        local hold = t.held[line]
        t.held[line] = {(hold and hold[COUNT] or 0) + taken, hold and hold[LAPSES] or 0, model}
        t.renewed[rows] = true
      end
      if left == 0 then return end
    end
  end
  if left > 0 then short(t, want, code or 'FEATURE_COUNT_INSUFFICIENT', units, units - left, rows) end
end

local function look(x, t, model, rows, place, want)
  local found, code = candidates(rows, place, x.now_ms)
  if model == METERED then
    if found[1] then grant(t, found[1][ID], 0) else short(t, want, code, 0, 0, rows) end
    return
  end
  local first = found[1]
  for i = 1, #rows do
    if not first and t.had[rows[i][ID]] then first = rows[i] end
  end
  if not first then
    short(t, want, code, 0, 0, rows)
  elseif not any_held(t, rows) then
    t.shown[#t.shown + 1] = first[ID]
  end
end

local function give_back(x, t, rows, place, units, want)
  local pool, total = {}, 0
  for i = #rows, 1, -1 do
    local row = rows[i]
    local hold = t.held[row[ID]]
    if hold and row[FIT] > 0 and row[FIT] <= place then
      pool[#pool + 1] = row
      total = total + hold[COUNT]
    end
  end
  if total < units then
    local code
    if total == 0 then code = select(2, candidates(rows, place, x.now_ms)) end
    short(t, want, code or 'RETURN_TOO_LARGE', -units, total, rows)
  end
  local left = math.min(units, total)
  for i = 1, #pool do
    local line = pool[i][ID]
    local hold = t.held[line]
    local back = math.min(left, hold[COUNT])
    left = left - back
    plus(t.moved, line, -back)
    t.held[line] = hold[COUNT] > back and {hold[COUNT] - back, hold[LAPSES], hold[MODEL]} or nil
  end
  if total > 0 and not any_held(t, rows) then t.shown[#t.shown + 1] = pool[#pool][ID] end
end

local function undo(x, t, rows, place, units, want, host)
  local found, total = {}, 0
  for i = 1, #rows do
    local row = rows[i]
    if row[FIT] > 0 and row[FIT] <= place and row[UNDO] > 0 then
      local entries = undoable_of(x, row[ID], host)
      for e = 1, #entries do
        local entry = entries[e]
        if x.now_ms <= entry[LAST] + row[UNDO] then
          found[#found + 1] = {row, entry, #found}
          total = total + entry[UNITS]
        end
      end
    end
  end
  table.sort(found, function(a, b)
    if a[2][LAST] ~= b[2][LAST] then return a[2][LAST] > b[2][LAST] end
    return a[3] > b[3]
  end)
  if total < units then
    local live, code = candidates(rows, place, x.now_ms)
    local window = total > 0
    for i = 1, #live do window = window or live[i][UNDO] > 0 end
    if window then
      code = 'UNDO_WINDOW_CLOSED'
    elseif #live > 0 then
      code = 'CONSUMED_NOT_RETURNABLE'
    end
    short(t, want, code, -units, total, rows)
  end
  local left = math.min(units, total)
  for i = 1, #found do
    local taken = math.min(left, found[i][2][UNITS])
    left = left - taken
    if taken > 0 then
      t.undone[#t.undone + 1] = {found[i][1], found[i][2], taken}
      grant(t, found[i][1][ID], -taken)
    end
  end
end

local function consume(x, row, host, units)
  local line = row[ID]
  local label, end_ms = label_of(x, row[PERIOD])
  if end_ms > 0 then
    local member = 'p|' .. row.name
    x.keep[member] = math.max(x.keep[member] or 0, end_ms + row[UNDO] + 1)
  end
  set_used(x, row.name, used_of(x, row.name) + units)
  record_usage(x, host, line, units, x.now_ms, 0)
  if row[UNDO] == 0 then return end
  local entries, name = undoable_of(x, line, host)
  local kept = {}
  for i = 1, #entries do
    if x.now_ms <= entries[i][LAST] + row[UNDO] then kept[#kept + 1] = entries[i] end
  end
  local newest = kept[#kept]
  if newest and newest[LABEL] == label and x.now_ms - newest[FIRST] < math.ceil(row[UNDO] / UNDO_BUCKETS) then
    newest[UNITS] = newest[UNITS] + units
    newest[LAST] = x.now_ms
  else
    kept[#kept + 1] = {x.now_ms, x.now_ms, units, label}
  end
  x.undoable[name] = kept
  x.undoable_changed[name] = x.now_ms + row[UNDO] + 1
end

local function take_back(x, host, each)
  local row, entry, units = each[1], each[2], each[3]
  local name = row[ID] .. '|' .. entry[LABEL]
  -- Less than that is left only of a period forgotten before a longer undo interval was given to its line.
  local used = used_of(x, name)
  if used >= units then set_used(x, name, used - units) end
  entry[UNITS] = entry[UNITS] - units
  record_usage(x, host, row[ID], -units, x.now_ms, units)
  local entries, undo_name = undoable_of(x, row[ID], host)
  local kept = {}
  for i = 1, #entries do
    if entries[i][UNITS] > 0 then kept[#kept + 1] = entries[i] end
  end
  x.undoable[undo_name] = kept
  x.undoable_changed[undo_name] = x.undoable_changed[undo_name] or -1  -- -1: the moment of forgetting stays
end

local function renew(x, t, rows)
  for i = 1, #rows do
    local row = rows[i]
    local hold = t.held[row[ID]]
    if hold and not row[RETIRED] then
      local lapses_ms = row[EXPIRES]
      if row[INTERVAL] > 0 then
        local at_ms = math.ceil((x.now_ms + row[INTERVAL]) / 1000) * 1000
        if lapses_ms == 0 or at_ms < lapses_ms then lapses_ms = at_ms end
      end
      t.held[row[ID]] = {hold[COUNT], lapses_ms, hold[MODEL]}
    end
  end
end

local function commit(x, t, host, wants)
  local changed = false
  for line, hold in pairs(t.had) do
    local new = t.held[line]
    local delta = (new and new[COUNT] or 0) - hold[COUNT]
    if delta ~= 0 then
      change_held(x, host, line, hold[MODEL], delta, x.now_ms, math.max(0, -delta))
    end
    changed = changed or delta ~= 0 or new[LAPSES] ~= hold[LAPSES]
  end
  for line, hold in pairs(t.held) do
    if not t.had[line] then
      change_held(x, host, line, hold[MODEL], hold[COUNT], x.now_ms, 0)
      changed = true
    end
  end
  if changed then set_held(x, host, t.held) end
  for i = 1, #wants do
    local rows = tables[wants[i][1]][2]
    for j = 1, #rows do
      local units = t.grants[rows[j][ID]]
      if units and units > 0 then consume(x, rows[j], host, units) end
    end
  end
  for i = 1, #t.undone do take_back(x, host, t.undone[i]) end
end

local function answer_held(t, wants)
  local answer = {}
  if #wants == 0 then
    local lines = names(t.held)
    table.sort(lines)
    for i = 1, #lines do
      answer[i] = {lines[i], t.held[lines[i]][COUNT], t.held[lines[i]][LAPSES]}
    end
    return answer
  end
  local listed = {}
  for i = 1, #wants do
    local rows = tables[wants[i][1]][2]
    for j = 1, #rows do
      local line = rows[j][ID]
      local hold = t.held[line]
      if hold then
        answer[#answer + 1] = {line, hold[COUNT], hold[LAPSES]}
        listed[line] = true
      end
    end
  end
  for i = 1, #t.shown do
    if not listed[t.shown[i]] then
      answer[#answer + 1] = {t.shown[i], 0, 0}
      listed[t.shown[i]] = true
    end
  end
  return answer
end

local function trial(x, host)
  return {
    had = held_by(x, host), held = {}, moved = {}, grants = {}, granted = {}, undone = {}, shown = {},
    renewed = {}, shortfalls = {}, denials = {}, day = day_of(x, x.now_ms),
  }
end

local function run(x, host, flags, wants)
  local t = trial(x, host)
  local incremental, partial = bit.band(flags, INCREMENTAL) > 0, bit.band(flags, PARTIAL) > 0
  for line, hold in pairs(t.had) do
    if incremental then t.held[line] = hold else t.moved[line] = -hold[COUNT] end
  end
  for i = 1, #wants do
    local model, rows = tables[wants[i][1]][1], tables[wants[i][1]][2]
    for place, each in ipairs(wants[i][2]) do
      local units, want = each[1], each[2]
      if units > 0 then
        take(x, t, model, rows, place, units, want)
      elseif units == 0 then
        look(x, t, model, rows, place, want)
      elseif model == METERED then
        undo(x, t, rows, place, -units, want, host)
      else
        give_back(x, t, rows, place, -units, want)
      end
    end
  end
  if #t.shortfalls > 0 and not partial then
    t.grants, t.granted, t.shown, t.held = {}, {}, {}, t.had
  else
    for rows in pairs(t.renewed) do renew(x, t, rows) end
    commit(x, t, host, wants)
  end
  for i = 1, #t.denials do plus(month_of(x, t.day).add, t.denials[i], 1) end
  x.applied = x.applied + 1
  x.hosts[host] = true
  local grants = {}
  for i = 1, #t.granted do grants[i] = {t.granted[i], t.grants[t.granted[i]]} end
  return {x.now_ms, t.shortfalls, grants, answer_held(t, wants)}
end

local function preview(x, host, wants)
  local t, offers = trial(x, host), {}
  for i = 1, #wants do
    local rows = tables[wants[i][1]][2]
    for place, each in ipairs(wants[i][2]) do
      local found, code = candidates(rows, place, x.now_ms)
      if code then short(t, each[2], code, 0, 0, rows) end
      for j = 1, #found do
        local hold = t.had[found[j][ID]]
        offers[#offers + 1] = {each[2], found[j][ID], room(x, t.moved, found[j]), hold and hold[COUNT] or 0}
      end
    end
  end
  return {x.now_ms, t.shortfalls, offers}
end

-- Writing --------------------------------------------------------------------------------------------------------

local function write_holds(x)
  local set, gone, scores, unscored = {}, {}, {}, {}
  for host in pairs(x.held_changed) do
    local list, next_ms = {}, nil
    for line, hold in pairs(x.held[host]) do
      list[#list + 1] = {line, hold[COUNT], hold[LAPSES], hold[MODEL]}
      if hold[LAPSES] > 0 and (not next_ms or hold[LAPSES] < next_ms) then next_ms = hold[LAPSES] end
    end
    if #list > 0 then
      set[#set + 1] = host
      set[#set + 1] = cmsgpack.pack(list)
    else
      gone[#gone + 1] = host
    end
    if next_ms then
      scores[#scores + 1] = next_ms
      scores[#scores + 1] = host
    else
      unscored[#unscored + 1] = host
    end
  end
  store('HSET', x.holds, set)
  store('HDEL', x.holds, gone)
  store('ZADD', x.lapse, scores)
  store('ZREM', x.lapse, unscored)
  return #scores + #unscored > 0
end

local function write_undo(x)
  local set, gone, scores, unscored = {}, {}, {}, {}
  for name, until_ms in pairs(x.undoable_changed) do
    local entries = x.undoable[name]
    if #entries > 0 then
      set[#set + 1] = name
      set[#set + 1] = pack_entries(entries)
      if until_ms > 0 then
        scores[#scores + 1] = until_ms
        scores[#scores + 1] = 'u|' .. name
      end
    else
      gone[#gone + 1] = name
      unscored[#unscored + 1] = 'u|' .. name
    end
  end
  store('HSET', x.undo, set)
  store('HDEL', x.undo, gone)
  store('ZADD', x.lapse, scores)
  store('ZREM', x.lapse, unscored)
  return #scores + #unscored > 0
end

local function write_used(x)
  local set = {}
  for name in pairs(x.units_changed) do
    set[#set + 1] = name
    set[#set + 1] = x.units[name]
  end
  store('HSET', x.used, set)
  if x.forget_used then store('HDEL', x.used, x.forget_used) end
  store('ZREM', x.lapse, x.keep_gone)
  local scores = {}
  for member, until_ms in pairs(x.keep) do
    scores[#scores + 1] = until_ms
    scores[#scores + 1] = member
  end
  store('ZADD', x.lapse, scores, 'GT')
  return #scores + #x.keep_gone > 0
end

local function write_days(x)
  for index, month in pairs(x.month) do
    local key = KEYS[x.months + index]
    add(key, month.add, false)
    local set = {}
    local peaks = names(month.top)
    local found = #peaks > 0 and fetch(key, peaks) or {}
    for i = 1, #peaks do
      set[#set + 1] = peaks[i]
      set[#set + 1] = math.max(month.top[peaks[i]], tonumber(found[peaks[i]] or 0))
    end
    for name, units in pairs(month.set) do
      set[#set + 1] = name
      set[#set + 1] = units
    end
    store('HSET', key, set)
  end
end

local function write(x)
  -- Sets that end a sweep come first: a member may be scored anew by what was applied after it.
  local moved = write_used(x)
  moved = write_holds(x) or moved
  moved = write_undo(x) or moved
  write_days(x)
  local sums = {}
  for line, units in pairs(x.acked) do
    if units ~= 0 then
      sums['acked|' .. line] = units
      sums['days|' .. line] = units
    end
  end
  for i = 1, #x.upstreams do
    add(KEYS[x.open + i], x.rows[i], true)
    if next(x.rows[i]) then redis.call('SADD', x.dirty, x.instance) end
    for line, units in pairs(x.acked) do
      if units ~= 0 then sums['open|' .. line .. '|' .. x.upstreams[i][1]] = units end
    end
  end
  if x.applied > 0 then sums.seq = x.applied end
  add(x.ledger, sums, false)
  redis.call('HSET', x.ledger, 'last_ms', x.now_ms)
  local seen = {}
  for host in pairs(x.hosts) do
    seen[#seen + 1] = x.now_ms
    seen[#seen + 1] = host
  end
  store('ZADD', x.seen, seen)
  if moved then
    local first = redis.call('ZRANGE', x.lapse, 0, 0, 'WITHSCORES')
    if first[2] then
      redis.call('ZADD', x.due, first[2], x.instance)
    else
      redis.call('ZREM', x.due, x.instance)
    end
  end
end

-- The call: read, decide, write ------------------------------------------------------------------------------------

local opened = {}
for c = 1, #contexts do
  local x = open_context(c)
  opened[c] = x
  if x.version ~= x.found_version then
    x.refusal = {STALE, x.found_version}
  else
    local from_ms = find_due(x)
    if not reaches(x, from_ms) then
      x.refusal = {CALENDAR, from_ms, x.now_ms}
    else
      sweep(x)
      if x.again then x.refusal = {AGAIN} end
    end
  end
end

local records, record_keys, wanted, hosts, prepared = {}, {}, {}, {}, {}
for i = 1, #asks do
  local ask = asks[i]
  local x = opened[ask[1]]
  if not x.refusal then
    if ask[2] > 0 then record_keys[#record_keys + 1] = KEYS[ask[2]] end
    wanted[x] = wanted[x] or {}
    hosts[x] = hosts[x] or {}
    hosts[x][ask[6]] = true
    for _, want in ipairs(ask[8]) do
      if not prepared[want[1]] then
        prepared[want[1]] = true
        for _, row in ipairs(tables[want[1]][2]) do
          row.name = row[ID] .. '|' .. label_of(x, row[PERIOD])
          if x.units[row.name] == nil then wanted[x][row.name] = true end
        end
      end
    end
  end
end
if #record_keys > 0 then
  local values = redis.call('MGET', unpack(record_keys))
  for i = 1, #record_keys do records[record_keys[i]] = values[i] end
end
for x, fields in pairs(wanted) do
  for name, units in pairs(fetch(x.used, names(fields))) do x.units[name] = tonumber(units or 0) end
end
for x, set in pairs(hosts) do
  local unknown = {}
  for host in pairs(set) do
    if x.held[host] == nil then unknown[#unknown + 1] = host end
  end
  for host, text in pairs(fetch(x.holds, unknown)) do x.held[host] = unpack_holds(text) end
end

local replies, fresh = {}, {}
for i = 1, #asks do
  local ask = asks[i]
  local x, key = opened[ask[1]], ask[2] > 0 and KEYS[ask[2]] or nil
  if x.refusal then
    replies[i] = x.refusal
  elseif bit.band(ask[7], PREVIEW) > 0 then
    replies[i] = {DONE, preview(x, ask[6], ask[8])}
  elseif fresh[key] or records[key] then
    local record = fresh[key] or cmsgpack.unpack(records[key])
    if record[1] == ask[4] then
      replies[i] = {REPLAYED, record[2], record[3]}
    else
      replies[i] = {MISMATCH}
    end
  else
    local outcome = run(x, ask[6], ask[7], ask[8])
    fresh[key] = {ask[4], outcome, ask[5], x.version, ttl_ms = ask[3]}
    replies[i] = {DONE, outcome}
  end
end

local sweeps = {}
for c = 1, #contexts do
  local x = opened[c]
  sweeps[c] = x.refusal or {DONE}
  if not x.refusal or x.again and x.refusal[1] == AGAIN then write(x) end
end
for key, record in pairs(fresh) do
  redis.call('SET', key, cmsgpack.pack({record[1], record[2], record[3], record[4]}), 'PX', record.ttl_ms)
end
return cmsgpack.pack({clock_ms, replies, sweeps})
