-- What RedisStore does in one step. ARGV: the operation's name, then its values. Times are Unix seconds of the caller; beside them every
-- key has a life by Redis's own clock, so that what nobody sweeps ends by itself.
--
-- A place is an owner and an id: "3:key4:userid", each part of the owner after its length. Of sessions and responses alike:
--   session:PLACE, response:PLACE  hash          turns:PLACE  list            lease:PLACE  "until holder"
--   sessions:expiries              place → when it expires; responses:expiries too
--   sessions:all, sessions:of:OWNER, sessions:by:USER   place → its number; of responses only the last
--   key:ID  hash    keys:ids  hash of a secret, good or rotated away → id    keys:all, keys:of:TEAM  id → when it was made
--   teams  id → team    spend:ACCOUNT  period → USD    audit  row → its number    secrets  name → value
--   values:KIND  name → "until body", without an end " body"
--   keys:version, number  counters

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

-- keys and teams

local function changed()
    return redis.call('INCR', P .. 'keys:version')
end

local function key_of(id)
    return redis.call('HMGET', P .. 'key:' .. id, 'key', 'created_at', 'revoked_at', 'previous_until')
end

local function put_key(id, key, team)
    redis.call('HSET', P .. 'key:' .. id, 'key', key, 'team', team)
    if team ~= '' then redis.call('ZADD', P .. 'keys:of:' .. team, redis.call('HGET', P .. 'key:' .. id, 'created_at'), id) end
    return changed()
end

function run.create_key(id, secret_hash, key, created_at, team)
    if redis.call('EXISTS', P .. 'key:' .. id) == 1 or redis.call('HEXISTS', P .. 'keys:ids', secret_hash) == 1 then return 0 end
    redis.call('HSET', P .. 'key:' .. id, 'created_at', created_at, 'hash', secret_hash)
    redis.call('HSET', P .. 'keys:ids', secret_hash, id)
    redis.call('ZADD', P .. 'keys:all', created_at, id)
    return put_key(id, key, team)
end

-- Where to go on after a key, which may have left the team since it was shown; nil: there is none.
local function place_after(keys, cursor)
    local shown = redis.call('ZRANK', keys, cursor)
    if shown then return shown + 1 end
    local created_at = redis.call('HGET', P .. 'key:' .. cursor, 'created_at')
    if not created_at then return nil end
    redis.call('ZADD', keys, created_at, cursor)
    shown = redis.call('ZRANK', keys, cursor)
    redis.call('ZREM', keys, cursor)
    return shown
end

function run.list_keys(list, cursor, limit)
    local keys = P .. 'keys:' .. list
    local from = cursor == '' and 0 or place_after(keys, cursor)
    if not from then return false end
    local found = {}
    for index, id in ipairs(redis.call('ZRANGE', keys, from, from + limit - 1)) do found[index] = key_of(id) end
    return found
end

function run.find_key(id)
    return redis.call('EXISTS', P .. 'key:' .. id) == 1 and key_of(id)
end

function run.update_key(id, key, team)
    local was = redis.call('HGET', P .. 'key:' .. id, 'team')
    if not was then return false end
    if was ~= team and was ~= '' then redis.call('ZREM', P .. 'keys:of:' .. was, id) end
    put_key(id, key, team)
    return key_of(id)
end

function run.rotate_key(id, secret_hash, previous_until)
    local key = P .. 'key:' .. id
    local current = redis.call('HGET', key, 'hash')
    if not current or redis.call('HEXISTS', key, 'revoked_at') == 1 then return false end
    local previous = redis.call('HGET', key, 'previous_hash')
    if previous then redis.call('HDEL', P .. 'keys:ids', previous) end
    redis.call('HSET', key, 'hash', secret_hash, 'previous_hash', current, 'previous_until', previous_until)
    redis.call('HSET', P .. 'keys:ids', secret_hash, id)
    changed()
    return key_of(id)
end

function run.revoke_key(id, at)
    if redis.call('EXISTS', P .. 'key:' .. id) == 0 then return false end
    if redis.call('HSETNX', P .. 'key:' .. id, 'revoked_at', at) == 1 then changed() end
    return key_of(id)
end

function run.find_keys(...)
    local found = {}
    for index, secret_hash in ipairs({...}) do
        local id = redis.call('HGET', P .. 'keys:ids', secret_hash)
        found[index] = id and {redis.call('HGET', P .. 'key:' .. id, 'hash') == secret_hash and 1 or 0, key_of(id)}
    end
    return found
end

function run.keys_version()
    return redis.call('GET', P .. 'keys:version') or 0
end

function run.put_team(id, team)
    redis.call('HSET', P .. 'teams', id, team)
    return changed()
end

function run.list_teams()
    return redis.call('HVALS', P .. 'teams')
end

function run.delete_team(id)
    for _, key in ipairs(redis.call('ZRANGE', P .. 'keys:of:' .. id, 0, -1)) do
        if redis.call('HEXISTS', P .. 'key:' .. key, 'revoked_at') == 0 then return false end
    end
    if redis.call('HDEL', P .. 'teams', id) == 0 then return 0 end
    return changed()
end

-- money

function run.add_spend()
    for index = 2, #ARGV, 3 do redis.call('HINCRBYFLOAT', P .. 'spend:' .. ARGV[index], ARGV[index + 1], ARGV[index + 2]) end
    return 1
end

function run.spend_of(...)
    local asked, found = {...}, {}
    for index = 1, #asked, 2 do
        found[#found + 1] = redis.call('HGET', P .. 'spend:' .. asked[index], asked[index + 1])
    end
    return found
end

-- the audit log

function run.last_audit()
    return {redis.call('ZREVRANGE', P .. 'audit', 0, 0)[1] or '', redis.call('GET', P .. 'audit:signature') or ''}
end

function run.append_audit(last, number, row, signature)
    if (redis.call('ZREVRANGE', P .. 'audit', 0, 0)[1] or '') ~= last then return 0 end
    redis.call('ZADD', P .. 'audit', number, row)
    redis.call('SET', P .. 'audit:signature', signature)
    return 1
end

function run.read_audit(after, limit)
    return redis.call('ZRANGEBYSCORE', P .. 'audit', '(' .. after, '+inf', 'LIMIT', 0, limit)
end

function run.secret(name, made)
    redis.call('HSETNX', P .. 'secrets', name, made)
    return redis.call('HGET', P .. 'secrets', name)
end

-- values

local function is_kept(value, now)
    local expires_at = string.match(value, '^([^ ]*) ')
    return expires_at == '' or tonumber(expires_at) > tonumber(now)
end

function run.keep_value(kind, name, body, now, expires_at)
    local all = redis.call('HGETALL', P .. 'values:' .. kind)
    for index = 1, #all, 2 do
        if not is_kept(all[index + 1], now) then redis.call('HDEL', P .. 'values:' .. kind, all[index]) end
    end
    return redis.call('HSET', P .. 'values:' .. kind, name, expires_at .. ' ' .. body)
end

function run.claim_value(kind, name, body, now, expires_at)
    local value = run.find_value(kind, name, now)
    if value and string.sub(value, string.find(value, ' ', 1, true) + 1) ~= body then return 0 end
    run.keep_value(kind, name, body, now, expires_at)
    return 1
end

function run.find_value(kind, name, now)
    local value = redis.call('HGET', P .. 'values:' .. kind, name)
    return value and is_kept(value, now) and value
end

function run.list_values(kind, now)
    local all, kept = redis.call('HGETALL', P .. 'values:' .. kind), {}
    for index = 1, #all, 2 do
        if is_kept(all[index + 1], now) then
            kept[#kept + 1] = all[index]
            kept[#kept + 1] = all[index + 1]
        end
    end
    return kept
end

function run.drop_value(kind, name)
    return redis.call('HDEL', P .. 'values:' .. kind, name)
end

return run[ARGV[1]](unpack(ARGV, 2, math.min(#ARGV, VALUES_MAX + 1)))
