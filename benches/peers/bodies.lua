-- The keys of keys.lua in turn, each with a transfer of 2 KiB; the service sends it back.
local step, at, requests = 7919, 0, {}

local function transfer()
  local items = {}
  for number = 1, 18 do
    items[number] = string.format(
      '{"position":%d,"description":"Invoice line %d of the order","amount":"%d.00","currency":"EUR"}', number, number, number * 17)
  end
  local body = '{"reference":"TR-2041","beneficiary":{"name":"Example Ltd","password":"not for the record"},"items":['
    .. table.concat(items, ",") .. '],"note":"'
  return body .. string.rep("x", 2046 - #body) .. '"}'
end

function init()
  local body = transfer()
  for line in io.lines(os.getenv("BENCH_KEYS")) do
    requests[#requests + 1] = wrk.format("POST", "/api/v1/transfers", {
      ["Host"] = "api.example.com",
      ["Authorization"] = "Bearer " .. line:match("^%S+"),
      ["Accept"] = "application/json",
      ["Content-Type"] = "application/json",
      ["User-Agent"] = "wrk",
    }, body)
  end
end

function request()
  at = (at + step) % #requests
  return requests[at + 1]
end
