"""What Redis runs for the limits. Time is the server's: one clock for all processes.

A hash of requests or of tokens holds a clock minute, its count, and the count of the minute before; that of tokens also a
day in UTC and its count. The day of requests is a hash of its own, so that what is limited by the minute alone, which may be
many names, is forgotten within two. A sorted set holds places, each scored by the end of its lease.
"""

from __future__ import annotations

# KEYS: hash of requests; sorted set of places, each scored by the end of its lease; hash of tokens; hash of a day's requests.
# ARGV: requests per minute, places, tokens per minute, tokens per day, requests per day, 0 for no limit; the place to take;
# the lease in ms.
# Gives {refusal, requests of the last minute, of this one, ms left of it, tokens of the last minute, of this one, of this
# day, ms left of it, requests of this day}. Time is the server's: one clock for all processes.
TAKE = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local minute = math.floor(now_ms / 60000)
local day = math.floor(now_ms / 86400000)
local left_ms = (minute + 1) * 60000 - now_ms
local max_requests, max_places = tonumber(ARGV[1]), tonumber(ARGV[2])
local max_tokens, max_tokens_daily, max_requests_daily = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local day_left_ms = (day + 1) * 86400000 - now_ms
local refusal, previous, current, today = 0, 0, 0, 0
local tokens_previous, tokens_current, tokens_today = 0, 0, 0

local function counted(seen)
  local age = minute - (tonumber(seen[1]) or 0)
  if age == 0 then
    return tonumber(seen[3]), tonumber(seen[2])
  elseif age == 1 then
    return tonumber(seen[2]), 0
  end
  return 0, 0
end
local function is_spent(before, now, limit)
  return limit > 0 and math.floor(before * left_ms / 60000 + now) >= limit
end

if max_places > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
  if redis.call('ZCARD', KEYS[2]) >= max_places then
    refusal = 2
  end
end
if max_requests > 0 then
  previous, current = counted(redis.call('HMGET', KEYS[1], 'minute', 'current', 'previous'))
  if is_spent(previous, current, max_requests) then
    refusal = 1
  end
end
if max_tokens > 0 or max_tokens_daily > 0 then
  local seen = redis.call('HMGET', KEYS[3], 'minute', 'current', 'previous', 'day', 'today')
  tokens_previous, tokens_current = counted(seen)
  if tonumber(seen[4]) == day then
    tokens_today = tonumber(seen[5])
  end
  if is_spent(tokens_previous, tokens_current, max_tokens) then
    refusal = 3
  end
end
if max_requests_daily > 0 then
  local seen = redis.call('HMGET', KEYS[4], 'day', 'today')
  if tonumber(seen[1]) == day then
    today = tonumber(seen[2])
  end
  if today >= max_requests_daily then
    refusal = 5
  end
end
if max_tokens_daily > 0 and tokens_today >= max_tokens_daily then
  refusal = 4
end
if refusal == 0 and max_requests > 0 then
  current = current + 1
  redis.call('HSET', KEYS[1], 'minute', minute, 'current', current, 'previous', previous)
  redis.call('PEXPIRE', KEYS[1], 120000)
end
if refusal == 0 and max_requests_daily > 0 then
  today = today + 1
  redis.call('HSET', KEYS[4], 'day', day, 'today', today)
  redis.call('PEXPIRE', KEYS[4], day_left_ms)
end
if refusal == 0 and max_places > 0 then
  redis.call('ZADD', KEYS[2], now_ms + ARGV[7], ARGV[6])
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
end
return {refusal, previous, current, left_ms, tokens_previous, tokens_current, tokens_today, day_left_ms, today}
"""

# KEYS: hash of tokens. ARGV: how many were used.
SPEND = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local minute = math.floor(now_ms / 60000)
local day = math.floor(now_ms / 86400000)
local tokens = tonumber(ARGV[1])
local seen = redis.call('HMGET', KEYS[1], 'minute', 'current', 'previous', 'day', 'today')
local age = minute - (tonumber(seen[1]) or 0)
local previous, current, today = 0, tokens, tokens
if age == 0 then
  previous, current = tonumber(seen[3]), tonumber(seen[2]) + tokens
elseif age == 1 then
  previous = tonumber(seen[2])
end
if tonumber(seen[4]) == day then
  today = tonumber(seen[5]) + tokens
end
redis.call('HSET', KEYS[1], 'minute', minute, 'current', current, 'previous', previous, 'day', day, 'today', today)
redis.call('PEXPIRE', KEYS[1], math.max(120000, (day + 1) * 86400000 - now_ms))
return 0
"""

# KEYS: sorted set of places. ARGV: the lease in ms, then the places this process holds.
# XX: a place that was given back in the meantime stays given back.
RENEW = """
local time = redis.call('TIME')
local ends_ms = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for index = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', ends_ms, ARGV[index])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 0
"""
