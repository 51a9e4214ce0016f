-- The clock of the tests of time: whatever the test has set, in ms, forwards or backwards.
local function now()
  return tonumber(redis.call('GET', 'gw:clock'))
end
