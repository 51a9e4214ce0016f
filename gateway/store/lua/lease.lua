-- Takes, keeps or drops the lease of a partition: one forwarder among all processes.
--
-- ARGV  1 'take' | 'keep' | 'drop'  2 holder (uuid:token, new with each taking)  3 ttl_ms
-- KEYS  1 lease
-- reply 1 done; -1 the lease is another's, or lapsed: nothing changed
-- A lease that lapsed is not kept but taken anew, under a new token: another may have had it between.

local found = redis.call('GET', KEYS[1])
if found ~= ARGV[2] and not (ARGV[1] == 'take' and not found) then return -1 end
if ARGV[1] == 'drop' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
