-- apply.lua, part 7: what the caches came to, written once per key.

-- Write fields of a hash and when each is due; says whether the lapse set was touched.
local function store_scored(x, key, set, gone, scores, unscored)
  store('HSET', key, set)
  store('HDEL', key, gone)
  store('ZADD', x.lapse, scores)
  store('ZREM', x.lapse, unscored)
  return #scores + #unscored > 0
end

local function write_holds(x)
  local set, gone, scores, unscored = {}, {}, {}, {}
  for host in pairs(x.held_changed) do
    local list, next_ms = {}, nil
    for line, hold in pairs(x.held[host]) do
      list[#list + 1] = {line, hold[COUNT], hold[LAPSES], hold[MODEL], hold[SINCE], hold[BORROWED]}
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
  return store_scored(x, x.holds, set, gone, scores, unscored)
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
  return store_scored(x, x.undo, set, gone, scores, unscored)
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
  redis.call('HSET', x.ledger, 'last_ms', x.done_ms)  -- of a replay too: WAIT is for what its connection wrote
  local seen = {}
  for host in pairs(x.hosts) do
    seen[#seen + 1] = x.now_ms
    seen[#seen + 1] = host
  end
  store('ZADD', x.seen, seen)
  store('ZREM', x.seen, names(x.dropped))
  if x.next_blob then redis.call('HSET', x.cat, 'version', x.version + 1, 'blob', x.next_blob) end
  if moved then
    local first = redis.call('ZRANGE', x.lapse, 0, 0, 'WITHSCORES')
    if first[2] then
      redis.call('ZADD', x.due, first[2], x.instance)
    else
      redis.call('ZREM', x.due, x.instance)
    end
  end
end
