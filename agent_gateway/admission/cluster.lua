-- One exchange of a process with the cluster: what it says of its leases, then what its requests wish for, then a little more than that.
--
-- KEYS: a limit each. ARGV[1], msgpack: {process, lease_ms, limits, wishes}
--   limits   {0, per minute, used or (< 0) not used, top up, reset_ms}    string: when all of the allowance is there again (ms of TIME)
--            {1, at most, held, top up, spent, known to be spent}         hash: process → "held until", spent → USD
--   wishes   {index, amount, index, amount, …}: all of them or none
-- Answer, msgpack: {{topped up, reset_ms or spent} …, {0, 0} or {index that refused, wait_ms} …}

local MINUTE_MS = 60000
local EPSILON = 0.001
-- A limit that nobody speaks of is forgotten after so long; a minute's allowance is whole long before.
local RATE_LIFE_MS = 2 * MINUTE_MS
local HOLD_LIFE_MS = 86400000
-- A process may only keep more than it needs where there is so much more of it.
local ROOM = 10

local process, lease_ms, said, wishes = unpack(cmsgpack.unpack(ARGV[1]))
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000

local Rate, Hold = {}, {}
Rate.__index, Hold.__index = Rate, Hold

function Rate.load(key, said)
    local limit, used, reset_ms = said[2], said[3], said[5]
    local full_at = tonumber(redis.call('GET', key) or '') or now + reset_ms
    local rate = setmetatable({key = key, per_unit = MINUTE_MS / limit, limit = limit, full_at = math.max(full_at, now)}, Rate)
    rate:take(used)
    return rate
end

function Rate:take(amount) self.full_at = math.max(self.full_at + amount * self.per_unit, now) end

function Rate:wait_ms(amount) return self.full_at - now + math.min(amount, self.limit) * self.per_unit - MINUTE_MS end

function Rate:room() return (MINUTE_MS - (self.full_at - now)) / self.per_unit end

function Rate:state() return self.full_at - now end

function Rate:save()
    redis.call('SET', self.key, string.format('%.3f', self.full_at), 'PX', math.ceil(RATE_LIFE_MS + self:state()))
end

function Hold.load(key, said)
    local limit, held, spent, known = said[2], said[3], said[5], said[6]
    local hold = setmetatable({key = key, limit = limit, held = held, others = 0, spent = spent}, Hold)
    local fields = redis.call('HGETALL', key)
    for index = 1, #fields, 2 do
        local name, value = fields[index], fields[index + 1]
        if name == 'spent' then
            hold.spent = tonumber(value) + spent
        elseif name ~= process then
            local amount, till = string.match(value, '^(%S+) (%S+)$')
            if tonumber(till) > now then hold.others = hold.others + tonumber(amount) else redis.call('HDEL', key, name) end
        end
    end
    hold.spent = math.max(hold.spent, known)
    return hold
end

function Hold:take(amount) self.held = self.held + amount end

function Hold:room() return self.limit - self.spent - self.others - self.held end

-- The last one may go beyond the limit, by less than its own amount.
function Hold:wait_ms() return self:room() > EPSILON / 1000000 and 0 or 1000 end

function Hold:state() return self.spent end

function Hold:save()
    if self.held > 0 then
        redis.call('HSET', self.key, process, string.format('%.17g %.3f', self.held, now + lease_ms))
    else
        redis.call('HDEL', self.key, process)
    end
    if self.spent > 0 then redis.call('HSET', self.key, 'spent', string.format('%.17g', self.spent)) end
    redis.call('PEXPIRE', self.key, HOLD_LIFE_MS)
end

local KINDS = {[0] = Rate, [1] = Hold}
local limits, answers, granted = {}, {}, {}
for index, key in ipairs(KEYS) do limits[index] = KINDS[said[index][1]].load(key, said[index]) end

for number, wish in ipairs(wishes) do
    granted[number] = {0, 0}
    for place = 1, #wish, 2 do
        local wait_ms = limits[wish[place]]:wait_ms(wish[place + 1])
        if wait_ms > EPSILON and wait_ms > granted[number][2] then granted[number] = {wish[place], wait_ms} end
    end
    if granted[number][1] == 0 then
        for place = 1, #wish, 2 do limits[wish[place]]:take(wish[place + 1]) end
    end
end

for index, limit in ipairs(limits) do
    local top_up = said[index][4]
    if top_up == 0 or limit:room() < ROOM * top_up then top_up = 0 end
    limit:take(top_up)
    limit:save()
    answers[index] = {top_up, limit:state()}
end

return cmsgpack.pack({answers, granted})
