-- Decides and writes access requests: the only script that changes a count. This is the first of its parts,
-- which are one text to the store (scripts.py).
--
-- ARGV[1]  msgpack {contexts, bases, tables, asks}; contexts, tables as in core/calls.py;
--          an ask is {context, key, ttl_ms, fingerprint, echo, host, flags, wants, more}, indexes from 1,
--          key 0: none; more is absent or {key, ttl_ms, key, {name, value…}, {{version…}…}, blob}: why is
--          kept at the first key, the decision is recorded at the second one, versions are of each table's
--          lines, blob ('': none) is the catalogue's next version, in force if the ask is granted in full
-- KEYS     per context, from its base on: cat used holds lapse seen undo ledger due dirty,
--          then open:<upstream> per upstream, then days:<month> per month of its calendar;
--          and one d:<id> per ask that has an id; e:<id>, record per ask that has more
-- reply    msgpack {clock_ms, {verdict, …} per ask, {verdict, …} per context}; verdicts as in core/calls.py:
--          0 {outcome or preview}  1 {outcome, echo}  2 {}  3 {version}  4 {from_ms, now_ms}  5 {}
-- errors   none of its own; out of memory refuses before the first line, and all writes stand at the end,
--          because a Lua error would not undo them.
-- The executable specification is core/ledger.py; names are the same. now() comes from a prelude.

local INCREMENTAL, PARTIAL, PREVIEW, DROP, SET, LATER, RESTOCK, TELL = 1, 2, 4, 8, 16, 32, 64, 128
local DONE, REPLAYED, MISMATCH, STALE, CALENDAR, AGAIN = 0, 1, 2, 3, 4, 5
local METERED, METERED_REUSABLE, CONCURRENT = 0, 1, 2
local UNITS_MAX = 9007199254740991
local UNDO_BUCKETS = 1024
local SWEEP_MAX = 256     -- members of the lapse set looked at in one call
local FIELDS_MAX = 2000   -- in one HMGET or HSET: unpack fails near 8,000 values
local HOUR_MS = 3600000

local ID, CAPACITY, STARTS, EXPIRES, FIT, SELECTED, RETIRED, INTERVAL, PERIOD, UNDO = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local SHARED = 11                                          -- of a row, too: nil unless another server uses the line
local COUNT, LAPSES, MODEL, SINCE, BORROWED = 1, 2, 3, 4, 5  -- of a hold
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
