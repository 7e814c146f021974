-- What RedisStore does in one step. ARGV: the operation's name, then its values. Times are Unix seconds of the caller; beside them every
-- key has a life by Redis's own clock, so that what nobody sweeps ends by itself.
--
-- A place is an owner and an id: "3:key4:userid", each part of the owner after its length. Of sessions and responses alike:
--   session:PLACE, response:PLACE  hash          turns:PLACE  list            lease:PLACE  "until holder"
--   sessions:expiries              place → when it expires; responses:expiries too
--   sessions:all, sessions:of:OWNER, sessions:by:USER   place → its number; of responses only the last
--   keys  id → key    keys:ids  hash of the secret → id    keys:revoked  id → when    keys:version, number  counters

local P = 'agent-gateway:'
local CHAIN_MAX = 1000
-- Lua bounds what is unpacked at once. The turns of `append` may be more: they stay in ARGV, after its ten values.
local VALUES_MAX = 1000
local FIRST_TURN = 12

local function part(text)
    local length, rest = string.match(text, '^(%d+):(.*)$')
    return string.sub(rest, 1, length), string.sub(rest, length + 1)
end

local function lists(kind, place)
    local _, rest = part(place)
    local user, id = part(rest)
    local by_user = P .. kind .. 's:by:' .. user
    if kind == 'response' then return {by_user} end
    return {by_user, P .. 'sessions:all', P .. 'sessions:of:' .. string.sub(place, 1, #place - #id)}
end

local function is_live(kind, place, now)
    local expires_at = redis.call('HGET', P .. kind .. ':' .. place, 'expires_at')
    return expires_at and tonumber(expires_at) > tonumber(now)
end

local function renew(kind, place, expires_at, ttl_ms)
    redis.call('HSET', P .. kind .. ':' .. place, 'expires_at', expires_at)
    redis.call('ZADD', P .. kind .. 's:expiries', expires_at, place)
    redis.call('PEXPIRE', P .. kind .. ':' .. place, ttl_ms)
    if kind == 'session' then redis.call('PEXPIRE', P .. 'turns:' .. place, ttl_ms) end
end

local function forget(kind, place)
    local gone = redis.call('DEL', P .. kind .. ':' .. place)
    if kind == 'session' then redis.call('DEL', P .. 'turns:' .. place) end
    redis.call('ZREM', P .. kind .. 's:expiries', place)
    for _, list in ipairs(lists(kind, place)) do redis.call('ZREM', list, place) end
    return gone
end

local run = {}

-- sessions

function run.fetch(place, now, newest)
    if not is_live('session', place, now) then return false end
    local counts = redis.call('HMGET', P .. 'session:' .. place, 'summarized', 'turns')
    local first = math.max(tonumber(counts[1]), tonumber(counts[2]) - tonumber(newest))
    return {redis.call('HGETALL', P .. 'session:' .. place), first, redis.call('LRANGE', P .. 'turns:' .. place, first, -1)}
end

function run.append(place, key, user, id, expected, now, expires_at, ttl_ms, tokens, metadata)
    local session = P .. 'session:' .. place
    local there = is_live('session', place, now)
    if (there and redis.call('HGET', session, 'version') or '0') ~= expected then return 0 end
    if not there then
        forget('session', place)
        redis.call('HSET', session, 'key', key, 'user', user, 'id', id, 'created_at', now, 'summarized', 0)
        local number = redis.call('INCR', P .. 'number')
        for _, list in ipairs(lists('session', place)) do redis.call('ZADD', list, number, place) end
    end
    for index = FIRST_TURN, #ARGV do redis.call('RPUSH', P .. 'turns:' .. place, ARGV[index]) end
    redis.call('HINCRBY', session, 'turns', #ARGV - FIRST_TURN + 1)
    redis.call('HINCRBY', session, 'tokens', tokens)
    redis.call('HSET', session, 'used_at', now)
    if metadata ~= '' then redis.call('HSET', session, 'metadata', metadata) end
    renew('session', place, expires_at, ttl_ms)
    return redis.call('HINCRBY', session, 'version', 1)
end

function run.summarize(place, expected, now, before, summary)
    local session = P .. 'session:' .. place
    if not is_live('session', place, now) or redis.call('HGET', session, 'version') ~= expected then return 0 end
    if tonumber(redis.call('HGET', session, 'turns')) < tonumber(before) then return 0 end
    redis.call('HSET', session, 'summarized', before, 'summary', summary)
    return redis.call('HINCRBY', session, 'version', 1)
end

function run.delete_turn(place, number, now)
    local turns = P .. 'turns:' .. place
    if tonumber(number) < 0 or not is_live('session', place, now) then return 0 end
    local turn = redis.call('LINDEX', turns, number)
    if not turn or turn == '' then return 0 end
    redis.call('LSET', turns, number, '')
    redis.call('HINCRBY', P .. 'session:' .. place, 'version', 1)
    return 1
end

function run.touch(place, now, expires_at, ttl_ms)
    if not is_live('session', place, now) then return 0 end
    redis.call('HSET', P .. 'session:' .. place, 'used_at', now)
    renew('session', place, expires_at, ttl_ms)
    return 1
end

function run.acquire(place, holder, now, until_, lease_ms)
    local lease = redis.call('GET', P .. 'lease:' .. place)
    if lease then
        local held_until, held_by = string.match(lease, '^(%S+) (.*)$')
        if held_by ~= holder and tonumber(held_until) > tonumber(now) then return 0 end
    end
    redis.call('SET', P .. 'lease:' .. place, until_ .. ' ' .. holder, 'PX', lease_ms)
    return 1
end

function run.release(place, holder)
    local lease = redis.call('GET', P .. 'lease:' .. place)
    if lease and string.match(lease, '^%S+ (.*)$') == holder then redis.call('DEL', P .. 'lease:' .. place) end
    return 1
end

function run.list(list, now, below, limit)
    local found = redis.call('ZREVRANGEBYSCORE', P .. 'sessions:' .. list, below, '-inf', 'WITHSCORES', 'LIMIT', 0, limit)
    local sessions = {}
    for index = 1, #found, 2 do
        if is_live('session', found[index], now) then
            sessions[#sessions + 1] = redis.call('HGETALL', P .. 'session:' .. found[index])
        end
    end
    return {sessions, #found / 2, found[#found] or ''}
end

function run.count_sessions(now)
    return redis.call('ZCOUNT', P .. 'sessions:expiries', '(' .. now, '+inf')
end

-- sessions and responses

function run.delete(kind, place, now)
    local there = is_live(kind, place, now)
    forget(kind, place)
    return there and 1 or 0
end

function run.delete_user(user)
    local gone = 0
    for _, kind in ipairs({'session', 'response'}) do
        for _, place in ipairs(redis.call('ZRANGE', P .. kind .. 's:by:' .. user, 0, -1)) do gone = gone + forget(kind, place) end
    end
    return gone
end

function run.sweep(now, limit)
    local swept = {}
    for _, kind in ipairs({'session', 'response'}) do
        local places = redis.call('ZRANGEBYSCORE', P .. kind .. 's:expiries', '-inf', now, 'LIMIT', 0, limit)
        for _, place in ipairs(places) do forget(kind, place) end
        swept[#swept + 1] = #places
    end
    return swept
end

-- responses

local function chain(owner, id, now, limit, visit)
    while id and limit > 0 and is_live('response', owner .. id, now) do
        visit(owner .. id)
        id = redis.call('HGET', P .. 'response:' .. owner .. id, 'parent')
        limit = limit - 1
    end
end

function run.put_response(owner, id, parent, response, now, expires_at, ttl_ms)
    local place = owner .. id
    forget('response', place)
    redis.call('HSET', P .. 'response:' .. place, 'response', response)
    redis.call('ZADD', lists('response', place)[1], 0, place)
    renew('response', place, expires_at, ttl_ms)
    if parent == '' then return 1 end
    redis.call('HSET', P .. 'response:' .. place, 'parent', parent)
    chain(owner, parent, now, CHAIN_MAX, function(older)
        if tonumber(redis.call('HGET', P .. 'response:' .. older, 'expires_at')) < tonumber(expires_at) then
            renew('response', older, expires_at, ttl_ms)
        end
    end)
    return 1
end

function run.fetch_chain(owner, id, now, limit)
    local found = {}
    chain(owner, id, now, tonumber(limit), function(place)
        found[#found + 1] = redis.call('HGET', P .. 'response:' .. place, 'response')
    end)
    return found
end

-- keys

function run.create_key(id, secret_hash, key)
    if redis.call('HEXISTS', P .. 'keys', id) == 1 or redis.call('HEXISTS', P .. 'keys:ids', secret_hash) == 1 then return 0 end
    redis.call('HSET', P .. 'keys', id, key)
    redis.call('HSET', P .. 'keys:ids', secret_hash, id)
    return redis.call('INCR', P .. 'keys:version')
end

local function key_of(id)
    return {redis.call('HGET', P .. 'keys', id), redis.call('HGET', P .. 'keys:revoked', id)}
end

function run.revoke_key(id, at)
    if redis.call('HEXISTS', P .. 'keys', id) == 0 then return false end
    if redis.call('HSETNX', P .. 'keys:revoked', id, at) == 1 then redis.call('INCR', P .. 'keys:version') end
    return key_of(id)
end

function run.find_keys(...)
    local found = {}
    for index, secret_hash in ipairs({...}) do
        local id = redis.call('HGET', P .. 'keys:ids', secret_hash)
        found[index] = id and key_of(id)
    end
    return found
end

function run.keys_version()
    return redis.call('GET', P .. 'keys:version') or 0
end

function run.list_keys()
    local found = {}
    for index, id in ipairs(redis.call('HKEYS', P .. 'keys')) do found[index] = key_of(id) end
    return found
end

return run[ARGV[1]](unpack(ARGV, 2, math.min(#ARGV, VALUES_MAX + 1)))
