-- apply.lua, part 5: one request as a whole: on trial, then into the caches or not at all.

-- Move used of the present period; gives its label.
local function move_used(x, row, units)
  local label, end_ms = label_of(x, row[PERIOD])
  if end_ms > 0 then
    local member = 'p|' .. row.name
    x.keep[member] = math.max(x.keep[member] or 0, end_ms + row[UNDO] + 1)
  end
  set_used(x, row.name, used_of(x, row.name) + units)
  return label
end

local function consume(x, row, host, units)
  local line = row[ID]
  local label = move_used(x, row, units)
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
  -- A period may be forgotten that its line, with a longer undo interval, still knows of.
  local used = used_of(x, name)
  if used >= units or x.units_changed[name] or redis.call('HGET', x.used, name) then
    set_used(x, name, used - units)
  end
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
    local hold, had = t.held[row[ID]], t.had[row[ID]]
    if hold and not row[RETIRED] then
      local lapses_ms, borrowed = row[EXPIRES], t.set and not t.later or nil
      if row[INTERVAL] > 0 then
        local at_ms = math.ceil((x.now_ms + row[INTERVAL]) / 1000) * 1000
        if lapses_ms == 0 or at_ms < lapses_ms then lapses_ms = at_ms end
      end
      if t.later and had then
        local before_ms = had[LAPSES]
        if before_ms == 0 or lapses_ms > 0 and before_ms > lapses_ms then lapses_ms = before_ms end
        if before_ms == lapses_ms then borrowed = had[BORROWED] end
      end
      t.held[row[ID]] = {hold[COUNT], lapses_ms, hold[MODEL], hold[SINCE], borrowed}
    end
  end
end

local function commit(x, t, host)
  local changed = false
  for line, hold in pairs(t.had) do
    local new = t.held[line]
    local delta = (new and new[COUNT] or 0) - hold[COUNT]
    if delta ~= 0 then
      change_held(x, host, line, hold[MODEL], delta, x.now_ms, math.max(0, -delta))
    end
    changed = changed or delta ~= 0 or new[LAPSES] ~= hold[LAPSES] or new[BORROWED] ~= hold[BORROWED]
  end
  for line, hold in pairs(t.held) do
    if not t.had[line] then
      change_held(x, host, line, hold[MODEL], hold[COUNT], x.now_ms, 0)
      changed = true
    end
  end
  if changed then set_held(x, host, t.held) end
  for i = 1, #t.granted do
    local units = t.grants[t.granted[i][ID]]
    if units > 0 then consume(x, t.granted[i], host, units) end
  end
  for i = 1, #t.undone do take_back(x, host, t.undone[i]) end
  if t.restocked then
    for _, each in ipairs(t.restocked) do
      local row, units = each[1], each[2]
      move_used(x, row, -units)
      record_usage(x, host, row[ID], -units, x.now_ms, units)
    end
  end
end

local function answer_all(held)
  local answer, lines = {}, names(held)
  table.sort(lines)
  for i = 1, #lines do answer[i] = {lines[i], held[lines[i]][COUNT], held[lines[i]][LAPSES]} end
  return answer
end

local function answer_held(t, wants)
  local answer = {}
  if #wants == 0 then return answer_all(t.held) end
  local listed = {}
  for i = 1, #wants do
    local rows = tables[wants[i][1]][2]
    for j = 1, #rows do
      local line = rows[j][ID]
      local hold = t.held[line]
      if hold and not listed[line] then
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

-- The counters of each row of each table.
local function tell(x, wants)
  local told = {}
  for i = 1, #wants do
    for _, row in ipairs(tables[wants[i][1]][2]) do
      told[#told + 1] = {row[ID], used_of(x, row.name), row[SHARED] and used_of(x, row.elsewhere) or 0}
    end
  end
  return told
end

local function trial(x, host, flags)
  local t = {
    had = held_by(x, host), held = {}, moved = {}, grants = {}, granted = {}, undone = {}, shown = {},
    renewed = {}, shortfalls = {}, denials = {}, day = day_of(x, x.now_ms),
  }
  if flags >= SET then  -- nothing of it costs those who ask for none
    t.set, t.later = bit.band(flags, SET) > 0, bit.band(flags, LATER) > 0
    t.restocked = bit.band(flags, RESTOCK) > 0 and {} or nil
    t.tell = bit.band(flags, TELL) > 0
  end
  return t
end

local function run(x, host, flags, wants)
  local t = trial(x, host, flags)
  local incremental, partial = bit.band(flags, INCREMENTAL) > 0, bit.band(flags, PARTIAL) > 0
  for line, hold in pairs(t.had) do
    if incremental then t.held[line] = hold else t.moved[line] = -hold[COUNT] end
  end
  for i = 1, #wants do
    local model, rows = tables[wants[i][1]][1], tables[wants[i][1]][2]
    for place, each in ipairs(wants[i][2]) do
      serve(x, t, model, rows, place, each[1], each[2], host)
    end
  end
  if #t.shortfalls > 0 and not partial then
    t.grants, t.granted, t.shown, t.held = {}, {}, {}, t.had
  else
    for i = 1, #t.renewed do renew(x, t, t.renewed[i]) end
    commit(x, t, host)
  end
  for i = 1, #t.denials do plus(month_of(x, t.day).add, t.denials[i], 1) end
  x.applied = x.applied + 1
  local drop = bit.band(flags, DROP) > 0
  x.hosts[host] = not drop or nil
  x.dropped[host] = drop or nil
  local grants = {}
  for i = 1, #t.granted do
    local line = t.granted[i][ID]
    grants[i] = {line, t.grants[line]}
  end
  local outcome = {x.now_ms, t.shortfalls, grants, drop and answer_all(t.had) or answer_held(t, wants)}
  if t.tell then outcome[5] = tell(x, wants) end
  return outcome
end

local function preview(x, host, wants)
  local t, offers = trial(x, host, 0), {}
  for i = 1, #wants do
    local rows = tables[wants[i][1]][2]
    for place, each in ipairs(wants[i][2]) do
      local found, code = candidates(rows, place, x.now_ms)
      if code then short(x, t, each[2], code, 0, 0, rows, place) end
      for j = 1, #found do
        local hold = t.had[found[j][ID]]
        offers[#offers + 1] = {each[2], found[j][ID], room(x, t.moved, found[j]), hold and hold[COUNT] or 0}
      end
    end
  end
  return {x.now_ms, t.shortfalls, offers}
end
