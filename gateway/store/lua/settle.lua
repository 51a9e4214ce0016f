-- Ends a batch that the upstream has granted: its units are forwarded.
--
-- ARGV  1 holder  2 upstream  3 id
-- KEYS  1 lease  2 sealed  3 ledger
-- reply 1 settled; 0 no such batch is sealed (a repeat): nothing changed;
--       -1 the lease is another's: nothing changed

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local rows = rows_of(KEYS[2], ARGV[3])
if not rows then return 0 end

rebook_rows(KEYS[3], rows, ARGV[2], 'sealed', 'forwarded')
commit(KEYS[3])
finish(KEYS[2])
return 1
