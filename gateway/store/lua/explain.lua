-- apply.lua, part 6: why a request came to what it came to, as the counters stood before it.
-- The shape is core/explaining.py's Why, but for its last member, the outcome.

local function explain(x, ask)
  local host, wants, seen = ask[6], ask[8], {}
  local had = held_by(x, host)
  for i = 1, #wants do
    local model, rows, looked = tables[wants[i][1]][1], tables[wants[i][1]][2], {}
    for j = 1, #rows do
      local row = rows[j]
      local copy, hold = {unpack(row, ID, UNDO)}, had[row[ID]]
      copy[#copy + 1] = used_of(x, row.name)
      copy[#copy + 1] = hold and hold[COUNT] or 0
      looked[j] = copy
    end
    seen[i] = {model, looked, wants[i][2]}
  end
  return {x.instance, x.version, ask[7], host, ask[5], seen}
end

-- What a decision was about: the units that an outcome tells of, by line.
local function told_of(outcome)
  local units = {}
  for _, held in ipairs(outcome[4]) do units[held[1]] = held[2] end
  return units
end
