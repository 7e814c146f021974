-- One exchange of a process with the board: what it saw of deployments, then what all others did.
--
-- KEYS: hashes, by deployment but for the second
--   breakers    "at ejections id": when it opened (or, with 0 ejections, closed) last (ms of TIME), and the name of that change
--   processes   process → when it was last heard of (ms)
--   cooldowns   until when the provider wants to be left alone (ms)
--   probes      "until process": who tries it just now
-- ARGV[1], msgpack: {process, life_ms, history_ms, {{deployment, id, age_ms, ejections} …}, {deployment probed here …}, {{deployment, left_ms} …}}
-- Answer, msgpack: {place among the processes from 0, how many they are,
--                   {{deployment, id, age_ms, ejections} …}, {deployment probed elsewhere …}, {{deployment, left_ms} …}}

local process, life_ms, history_ms, changes, probing, cooldowns = unpack(cmsgpack.unpack(ARGV[1]))
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000

local function known(key, field) return redis.call('HGET', key, field) or '' end

-- The newest change counts, in whatever order they come.
for _, change in ipairs(changes) do
    local deployment, id, age_ms, ejections = unpack(change)
    local before = tonumber(string.match(known(KEYS[1], deployment), '^%S+'))
    if not before or now - age_ms >= before then
        redis.call('HSET', KEYS[1], deployment, string.format('%.3f %d %s', now - age_ms, ejections, id))
    end
end
redis.call('HSET', KEYS[2], process, string.format('%.3f', now))
for _, cooldown in ipairs(cooldowns) do
    local deployment, left_ms = unpack(cooldown)
    if now + left_ms > (tonumber(known(KEYS[3], deployment)) or 0) then
        redis.call('HSET', KEYS[3], deployment, string.format('%.3f', now + left_ms))
    end
end
for _, deployment in ipairs(probing) do redis.call('HSET', KEYS[4], deployment, string.format('%.3f %s', now + life_ms, process)) end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, history_ms) end

-- Calls `take` with each field and the words of its value; what it finds too old is forgotten.
local function each(key, take)
    local fields = redis.call('HGETALL', key)
    for index = 1, #fields, 2 do
        local words = {}
        for word in string.gmatch(fields[index + 1], '%S+') do words[#words + 1] = word end
        words[1] = tonumber(words[1])
        if not take(fields[index], unpack(words)) then redis.call('HDEL', key, fields[index]) end
    end
end

local place, count, news, probed, left = 0, 0, {}, {}, {}
each(KEYS[1], function(deployment, at, ejections, id)
    if at < now - history_ms then return false end
    news[#news + 1] = {deployment, id, now - at, tonumber(ejections)}
    return true
end)
each(KEYS[2], function(name, seen)
    if seen < now - life_ms then return false end
    count = count + 1
    if name < process then place = place + 1 end
    return true
end)
each(KEYS[3], function(deployment, till)
    if till <= now then return false end
    left[#left + 1] = {deployment, till - now}
    return true
end)
each(KEYS[4], function(deployment, till, prober)
    if till <= now then return false end
    if prober ~= process then probed[#probed + 1] = deployment end
    return true
end)

return cmsgpack.pack({place, count, news, probed, left})
