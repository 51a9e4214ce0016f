-- The record of decisions: what was decided, with the units that it was about, as {name, value…} and by line.

local function note(record, decision, sums)
  local told = {}
  for line, units in pairs(sums) do told[#told + 1] = line .. '=' .. string.format('%.0f', units) end
  table.sort(told)
  redis.call('XADD', record, '*', 'units', table.concat(told, ' '), unpack(decision))
end
