-- Increments of one query from one source, all or nothing. The format of an edge is in streams/neighbours.py.
-- KEYS: the query. ARGV: source (8 bytes), floor, window in days, TTL in ms, bound of items,
-- then for each increment, in offset order: offset, day, exposures, clicks, how many items, the items.
-- Answers item, edge, item, edge, ... of every named item whose edge reaches the floor, for repeated increments too.
local key, source = KEYS[1], ARGV[1]
local floor, window, ttl_ms, bound = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local heads = redis.call('HMGET', key, '\0f', '\0c')
local fences, capped = heads[1] or '', heads[2]
local fence, fence_at = -1, nil
for at = 1, #fences, 16 do
  if string.sub(fences, at, at + 7) == source then
    fence_at = at
    fence = struct.unpack('<I8', fences, at + 8)
  end
end

local function added(edge, day, exposures, clicks)
  if not edge then
    return struct.pack('<BI4I4I2I4I4', 1, exposures, clicks, day, exposures, clicks)
  end
  local size = #edge
  local last, last_exposures, last_clicks = struct.unpack('<I2I4I4', edge, size - 9)
  if day == last then
    local _, all_exposures, all_clicks = struct.unpack('<BI4I4', edge)
    return struct.pack('<BI4I4', 1, all_exposures + exposures, all_clicks + clicks) .. string.sub(edge, 10, size - 10)
      .. struct.pack('<I2I4I4', day, last_exposures + exposures, last_clicks + clicks)
  end
  if day <= last - window then
    return edge
  end
  local newest = math.max(day, last)
  local rows, all_exposures, all_clicks, placed = {}, 0, 0, false
  local function keep(row_day, row_exposures, row_clicks)
    if row_day > newest - window then
      rows[#rows + 1] = struct.pack('<I2I4I4', row_day, row_exposures, row_clicks)
      all_exposures, all_clicks = all_exposures + row_exposures, all_clicks + row_clicks
    end
  end
  for at = 10, size, 10 do
    local row_day, row_exposures, row_clicks = struct.unpack('<I2I4I4', edge, at)
    if row_day == day then
      row_exposures, row_clicks, placed = row_exposures + exposures, row_clicks + clicks, true
    elseif row_day > day and not placed then
      keep(day, exposures, clicks)
      placed = true
    end
    keep(row_day, row_exposures, row_clicks)
  end
  if not placed then
    keep(day, exposures, clicks)
  end
  return struct.pack('<BI4I4', 1, all_exposures, all_clicks) .. table.concat(rows)
end

local names, seen, n = {}, {}, #ARGV
local at = 6
while at <= n do
  local count = tonumber(ARGV[at + 4])
  for i = at + 5, at + 4 + count do
    local item = ARGV[i]
    if not seen[item] then
      seen[item] = true
      names[#names + 1] = item
    end
  end
  at = at + 5 + count
end

local edges = {}
for first = 1, #names, 1000 do
  local stop = math.min(first + 999, #names)
  local there = redis.call('HMGET', key, unpack(names, first, stop))
  for i = first, stop do
    edges[names[i]] = there[i - first + 1]
  end
end

local changed, last = {}, fence
at = 6
while at <= n do
  local offset, count = tonumber(ARGV[at]), tonumber(ARGV[at + 4])
  if offset > fence then  -- the fence as it was when the call began: one offset may carry several increments
    local day, exposures, clicks = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    for i = at + 5, at + 4 + count do
      local item = ARGV[i]
      edges[item] = added(edges[item], day, exposures, clicks)
      changed[item] = true
    end
    last = math.max(last, offset)
  end
  at = at + 5 + count
end

if last > fence then
  local entry = source .. struct.pack('<I8', last)
  if fence_at then
    fences = string.sub(fences, 1, fence_at - 1) .. entry .. string.sub(fences, fence_at + 16)
  else
    fences = fences .. entry
  end
  local fields = { '\0f', fences }
  for _, item in ipairs(names) do
    if changed[item] then
      fields[#fields + 1] = item
      fields[#fields + 1] = edges[item]
      if #fields >= 2000 then
        redis.call('HSET', key, unpack(fields))
        fields = { '\0f', fences }
      end
    end
  end
  redis.call('HSET', key, unpack(fields))
  redis.call('PEXPIRE', key, ttl_ms)
  local held = redis.call('HLEN', key) - 1 - (capped and 1 or 0)
  if held > bound then
    redis.call('HSET', key, '\0c', '1')
  end
  if held > bound + bound / 8 then  -- not at every new item: letting go reads them all
    local all = redis.call('HGETALL', key)
    local order = {}
    for i = 1, #all, 2 do
      if string.byte(all[i]) ~= 0 then
        local _, all_exposures, all_clicks = struct.unpack('<BI4I4', all[i + 1])
        local day = struct.unpack('<I2', all[i + 1], #all[i + 1] - 9)
        order[#order + 1] = { day, all_exposures + all_clicks, all[i] }
      end
    end
    table.sort(order, function(a, b)
      if a[1] ~= b[1] then return a[1] < b[1] end
      if a[2] ~= b[2] then return a[2] < b[2] end
      return a[3] < b[3]
    end)
    for i = 1, held - bound do
      redis.call('HDEL', key, order[i][3])
      edges[order[i][3]] = false
    end
  end
end

local answer = {}
for _, item in ipairs(names) do
  local edge = edges[item]
  if edge then
    local exposures = struct.unpack('<I4', edge, 2)
    if exposures >= floor then
      answer[#answer + 1] = item
      answer[#answer + 1] = edge
    end
  end
end
return answer
