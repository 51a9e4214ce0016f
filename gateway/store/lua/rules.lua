-- apply.lua, part 4: what a want may have: candidates, grants, returns, undo. Nothing is written here, and the
-- caches are not changed: a request moves counters on trial.

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
  local gone, most = moved[row[ID]] or 0, row[CAPACITY]
  -- What came back elsewhere is free here too, but used itself never passes UNITS_MAX.
  if row[SHARED] then most = math.min(most - used_of(x, row.elsewhere), UNITS_MAX) end
  local free = most - (used_of(x, row.name) + gone)
  if row[PERIOD] > 0 then  -- used starts again with each period, a line's life does not
    free = math.min(free, UNITS_MAX - (acked_of(x, row[ID]) + gone))
  end
  return math.max(0, math.min(free, UNITS_MAX))
end

-- It is a denial of the first candidate or, where there is none, of the first line that is not retired.
local function short(x, t, want, code, asked, available, rows, place)
  t.shortfalls[#t.shortfalls + 1] = {want, code, asked, available}
  local line = candidates(rows, place, x.now_ms)[1]
  for i = 1, #rows do
    if not line and not rows[i][RETIRED] then line = rows[i] end
  end
  t.denials[#t.denials + 1] = (line and line[ID] or '') .. '|' .. t.day[2] .. '|d:' .. code
end

local function grant(t, row, units)
  local line = row[ID]
  if not t.grants[line] then t.granted[#t.granted + 1] = row end
  plus(t.grants, line, units)
end

-- What is held of these lines gets another lapse. The order counts where a line is in two tables.
local function to_renew(t, rows)
  if t.renewed[#t.renewed] ~= rows then t.renewed[#t.renewed + 1] = rows end
end

local function any_held(t, rows)
  for i = 1, #rows do
    if t.held[rows[i][ID]] then return true end
  end
  return false
end

-- Grant what is missing of `units` to a host that has some already.
local function take(x, t, model, rows, place, units, want, have)
  local found, code = candidates(rows, place, x.now_ms)
  local left = units - have
  for i = 1, #found do
    local row = found[i]
    local line = row[ID]
    local taken = math.min(left, room(x, t.moved, row))
    if taken > 0 then
      left = left - taken
      plus(t.moved, line, taken)
      if model == METERED then
        grant(t, row, taken)
      else
        local hold, had = t.held[line], t.had[line]
        t.held[line] = {(hold and hold[COUNT] or 0) + taken, 0, model, had and had[SINCE] or x.now_ms}
        to_renew(t, rows)
      end
      if left == 0 then return end
    end
  end
  if left > 0 then short(x, t, want, code or 'FEATURE_COUNT_INSUFFICIENT', units, units - left, rows, place) end
end

local function look(x, t, model, rows, place, want)
  local found, code = candidates(rows, place, x.now_ms)
  if model == METERED then
    if found[1] then grant(t, found[1], 0) else short(x, t, want, code, 0, 0, rows, place) end
    return
  end
  local first = found[1]
  for i = 1, #rows do
    if not first and t.had[rows[i][ID]] then first = rows[i] end
  end
  if not first then
    short(x, t, want, code, 0, 0, rows, place)
  elseif not any_held(t, rows) then
    t.shown[#t.shown + 1] = first[ID]
  end
end

local function reduced(hold, count)
  return count > 0 and {count, hold[LAPSES], hold[MODEL], hold[SINCE], hold[BORROWED]} or nil
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
    short(x, t, want, code or 'RETURN_TOO_LARGE', -units, total, rows, place)
  end
  local left = math.min(units, total)
  for i = 1, #pool do
    local line = pool[i][ID]
    local hold = t.held[line]
    local back = math.min(left, hold[COUNT])
    left = left - back
    plus(t.moved, line, -back)
    t.held[line] = reduced(hold, hold[COUNT] - back)
  end
  if total > 0 and not any_held(t, rows) then t.shown[#t.shown + 1] = pool[#pool][ID] end
end

-- Bring what the host holds of the only row's line to `units`, and renew it; below 0: see that it holds so many.
local function hold_exactly(x, t, model, rows, place, units, want)
  local line = rows[1][ID]
  local hold = t.held[line]
  local have = hold and hold[COUNT] or 0
  local found, code = candidates(rows, place, x.now_ms)
  if units < 0 then
    if have < -units then short(x, t, want, 'NOT_HELD', -units, have, rows, place) end
  elseif units > 0 and #found == 0 then
    short(x, t, want, code, units, 0, rows, place)
  elseif units > have then
    take(x, t, model, rows, place, units, want, have)
  elseif units < have then
    plus(t.moved, line, units - have)
    t.held[line] = reduced(hold, units)
  end
  if units == 0 then
    t.shown[#t.shown + 1] = line
  elseif units > 0 and #found > 0 and t.held[line] then
    to_renew(t, rows)
  end
end

-- Return units of the only row's line, consumed by whomever: used may go below 0.
local function restock(x, t, rows, place, units, want)
  local row = rows[1]
  local found, code = candidates(rows, place, x.now_ms)
  local lowest, most = math.min(used_of(x, row.name), acked_of(x, row[ID])), 0
  if #found > 0 then most = math.max(0, UNITS_MAX + (lowest + (t.moved[row[ID]] or 0))) end
  if most < units then short(x, t, want, code or 'RETURN_TOO_LARGE', -units, most, rows, place) end
  local back = math.min(units, most)
  if back > 0 then
    plus(t.moved, row[ID], -back)
    t.restocked[#t.restocked + 1] = {row, back}
    grant(t, row, -back)
  end
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
    short(x, t, want, code, -units, total, rows, place)
  end
  local left = math.min(units, total)
  for i = 1, #found do
    local taken = math.min(left, found[i][2][UNITS])
    left = left - taken
    if taken > 0 then
      t.undone[#t.undone + 1] = {found[i][1], found[i][2], taken}
      grant(t, found[i][1], -taken)
    end
  end
end

-- Do what one want says; `units` below 0 are a return.
local function serve(x, t, model, rows, place, units, want, host)
  if t.set and model ~= METERED then
    hold_exactly(x, t, model, rows, place, units, want)
  elseif units > 0 then
    take(x, t, model, rows, place, units, want, 0)
  elseif units == 0 then
    look(x, t, model, rows, place, want)
  elseif model ~= METERED then
    give_back(x, t, rows, place, -units, want)
  elseif t.restocked then
    restock(x, t, rows, place, -units, want)
  else
    undo(x, t, rows, place, -units, want, host)
  end
end
