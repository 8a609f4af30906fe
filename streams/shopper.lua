-- A shopper's new state, if the stored one is still what was read; 0 when it is not: read and fold again.
-- KEYS: the shopper, the sequence. ARGV: expected codec and fence, the state, records, '1' when they replace the sequence.
if redis.call('GETRANGE', KEYS[1], 0, 8) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[4] == '1' then
  redis.call('SET', KEYS[2], ARGV[3])
elseif ARGV[3] ~= '' then
  redis.call('APPEND', KEYS[2], ARGV[3])
end
return 1
