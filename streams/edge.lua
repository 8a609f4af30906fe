-- Copies of queries' edges on one item: a newer version replaces an older, nothing else changes anything.
-- KEYS: the item. ARGV: TTL in ms, bound in bytes, then for each edge: query (8 bytes), newest day, E + C, its rows.
-- The item's string: u8 codec (1), u8 capped, then rows of 18 bytes, those of a query together and by day:
-- u64 query, u16 day, u32 E, u32 C.
local value = redis.call('GET', KEYS[1]) or '\1\0'
local before = value
for i = 3, #ARGV, 4 do
  local query, day, total, rows = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3]
  local first = string.find(value, query, 3, true)
  while first and (first - 3) % 18 ~= 0 do
    first = string.find(value, query, first + 1, true)
  end
  if first then
    local stop, old_day, old_total = first, -1, 0
    while string.sub(value, stop, stop + 7) == query do
      local row_day, exposures, clicks = struct.unpack('<I2I4I4', value, stop + 8)
      old_day, old_total, stop = row_day, old_total + exposures + clicks, stop + 18
    end
    if day > old_day or (day == old_day and total > old_total) then
      value = string.sub(value, 1, first - 1) .. string.sub(value, stop) .. rows
    end
  else
    value = value .. rows
  end
end
if value == before then
  return 1
end
local bound = tonumber(ARGV[2])
if #value > bound then
  local copies, at = {}, 3
  while at <= #value do
    local query, stop, day, total = string.sub(value, at, at + 7), at, -1, 0
    while string.sub(value, stop, stop + 7) == query do
      local row_day, exposures, clicks = struct.unpack('<I2I4I4', value, stop + 8)
      day, total, stop = row_day, total + exposures + clicks, stop + 18
    end
    copies[#copies + 1] = { day, total, query, string.sub(value, at, stop - 1) }
    at = stop
  end
  table.sort(copies, function(a, b)
    if a[1] ~= b[1] then return a[1] > b[1] end
    if a[2] ~= b[2] then return a[2] > b[2] end
    return a[3] > b[3]
  end)
  local kept, size = { '\1\1' }, 2
  for _, copy in ipairs(copies) do
    size = size + #copy[4]
    if size > bound then
      break
    end
    kept[#kept + 1] = copy[4]
  end
  value = table.concat(kept)
end
redis.call('SET', KEYS[1], value, 'PX', ARGV[1])
return 1
