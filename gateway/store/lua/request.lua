-- apply.lua, part 5: one request as a whole: on trial, then into the caches or not at all.

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
  local drop = bit.band(flags, DROP) > 0
  x.hosts[host] = not drop or nil
  x.dropped[host] = drop or nil
  local grants = {}
  for i = 1, #t.granted do grants[i] = {t.granted[i], t.grants[t.granted[i]]} end
  return {x.now_ms, t.shortfalls, grants, drop and answer_all(t.had) or answer_held(t, wants)}
end

local function preview(x, host, wants)
  local t, offers = trial(x, host), {}
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
