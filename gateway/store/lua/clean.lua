-- Takes an instance off the list of those with something to forward, when there is nothing.
--
-- ARGV  1 instance  2 catalogue version that the caller has the upstreams from
-- KEYS  1 cat  2 dirty  3… open, sealed and blocked of each upstream attached
-- reply 1 nothing is left; 0 something is, or the catalogue has changed: nothing changed
-- Whoever writes a row puts the instance on the list in the same step, so no mark is lost between.

if redis.call('HGET', KEYS[1], 'version') ~= ARGV[2] then return 0 end
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end
end
redis.call('SREM', KEYS[2], ARGV[1])
return 1
