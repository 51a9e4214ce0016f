-- apply.lua, part 3: what has lapsed goes back, each at its moment, a bounded number of them in a call.

-- Look at what is due without changing anything; returns the earliest moment that the calendar must reach.
local function find_due(x)
  local from_ms = x.now_ms
  x.lapsed, x.forget = {}, {}
  local limit = math.max(sweeps_left, 1)
  local due = redis.call('ZRANGEBYSCORE', x.lapse, '-inf', x.now_ms, 'WITHSCORES', 'LIMIT', 0, limit)
  local count = #due / 2
  if count == 0 then return from_ms end
  if sweeps_left == 0 then
    x.again, x.done_ms = true, x.last_ms
    return from_ms
  end
  sweeps_left = sweeps_left - count
  local until_ms = x.now_ms
  if count == limit then
    x.again = true
    until_ms = tonumber(due[#due])  -- a host found here may hold more that lapses after one not found yet
    x.done_ms = math.max(x.last_ms, until_ms)  -- the next call goes on at this moment
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
      local elsewhere = 'elsewhere|' .. name
      x.units[name], x.units[elsewhere] = nil, nil
      x.units_changed[name] = nil
      x.forget_used = x.forget_used or {}
      x.forget_used[#x.forget_used + 1] = name
      x.forget_used[#x.forget_used + 1] = elsewhere
    end
  end
end
