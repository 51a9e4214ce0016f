-- apply.lua, part 6: why a request came to what it came to, as the counters stood before it.
-- The shape is core/calls.py's Why, but for its last member, the outcome.

local SEEN_ROWS_MAX = 256  -- lines kept of one request, in its order of features; the rest is only counted

-- Units of a line that a host could undo now.
local function undoable_now(x, row, host)
  local units = 0
  for _, entry in ipairs((undoable_of(x, row[ID], host))) do
    if x.now_ms <= entry[LAST] + row[UNDO] then units = units + entry[UNITS] end
  end
  return units
end

local function explain(x, ask, versions)
  local host, wants, seen, left = ask[6], ask[8], {}, SEEN_ROWS_MAX
  for i = 1, #wants do
    local model, rows, looked = tables[wants[i][1]][1], tables[wants[i][1]][2], {}
    local first = wants[i][2][1]
    local undoes = model == METERED and first and first[1] < 0
    for j = 1, math.min(#rows, left) do
      local row = rows[j]
      local copy = {unpack(row, ID, UNDO)}
      copy[#copy + 1] = used_of(x, row.name)
      copy[#copy + 1] = undoes and row[UNDO] > 0 and undoable_now(x, row, host) or 0
      copy[#copy + 1] = versions[i][j]
      if row[SHARED] then copy[#copy + 1] = used_of(x, row.elsewhere) end
      looked[j] = copy
    end
    left = left - #looked
    seen[i] = {model, looked, #rows - #looked, wants[i][2]}
  end
  return {x.instance, x.version, ask[7], host, ask[5], seen, answer_all(held_by(x, host))}
end
