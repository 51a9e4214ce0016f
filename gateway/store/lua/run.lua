-- apply.lua, part 8: the call: read, decide, write.

-- What a decision was about: the units that an outcome tells of, by line.
local function told_of(outcome)
  local units = {}
  for _, held in ipairs(outcome[4]) do units[held[1]] = held[2] end
  return units
end

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

local records, record_keys = {}, {}
for i = 1, #asks do
  if asks[i][2] > 0 and not opened[asks[i][1]].refusal then record_keys[#record_keys + 1] = KEYS[asks[i][2]] end
end
if #record_keys > 0 then
  local values = redis.call('MGET', unpack(record_keys))
  for i = 1, #record_keys do records[record_keys[i]] = values[i] end
end

-- What is known costs nothing more: whoever sends a heavy batch again gets further each time.
local wanted, hosts, prepared = {}, {}, {}
for i = 1, #asks do
  local ask = asks[i]
  local x = opened[ask[1]]
  if not x.refusal and not (ask[2] > 0 and records[KEYS[ask[2]]]) then
    wanted[x] = wanted[x] or {}
    hosts[x] = hosts[x] or {}
    hosts[x][ask[6]] = true
    for _, want in ipairs(ask[8]) do
      if not prepared[want[1]] then
        prepared[want[1]] = true
        for _, row in ipairs(tables[want[1]][2]) do
          row.name = row[ID] .. '|' .. label_of(x, row[PERIOD])
          if x.units[row.name] == nil then wanted[x][row.name] = true end
          if row[SHARED] then
            row.elsewhere = 'elsewhere|' .. row.name
            wanted[x][row.elsewhere] = true
          end
        end
      end
    end
  end
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

local NO_MORE = {0, 0, 0, {}, {}, ''}
local replies, fresh, explained, notes = {}, {}, {}, {}
for i = 1, #asks do
  local ask = asks[i]
  local x, key = opened[ask[1]], ask[2] > 0 and KEYS[ask[2]] or nil
  if x.refusal then
    replies[i] = x.refusal
  elseif x.next_blob then
    replies[i] = {STALE, x.version + 1}
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
    local more = ask[9] or NO_MORE
    local why = more[1] > 0 and explain(x, ask, more[5]) or nil
    -- By the catalogue in force, which stays unless all is granted, some of it might be too much.
    local flags = more[6] ~= '' and bit.band(ask[7], bit.bnot(PARTIAL)) or ask[7]
    local outcome = run(x, ask[6], flags, ask[8])
    if why then
      why[#why + 1] = outcome
      explained[KEYS[more[1]]] = {why, more[2]}
    end
    if more[3] > 0 then notes[#notes + 1] = {KEYS[more[3]], more[4], told_of(outcome)} end
    if more[6] ~= '' and #outcome[2] == 0 then x.next_blob = more[6] end
    -- Whose request, and which one: so that what was counted is told from what was not (known_ids.py).
    fresh[key] = {ask[4], outcome, ask[5], x.version, x.seq + x.applied, x.instance, ttl_ms = ask[3]}
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
  redis.call('SET', key, cmsgpack.pack({unpack(record, 1, 6)}), 'PX', record.ttl_ms)
end
for key, each in pairs(explained) do redis.call('SET', key, cmsgpack.pack(each[1]), 'PX', each[2]) end
for _, each in ipairs(notes) do note(each[1], each[2], each[3]) end
return cmsgpack.pack({clock_ms, replies, sweeps})
