-- Ten thousand keys in turn, in an order that no cache of recent keys likes.
local count, step, at, requests = 10000, 7919, 0, {}

function init()
  for i = 0, count - 1 do
    requests[i] = wrk.format("GET", "/api/v1/transactions/txn_123", {
      ["Host"] = "api.example.com",
      ["Authorization"] = string.format("Bearer hlive_%043d", i),
      ["Accept"] = "application/json",
      ["User-Agent"] = "wrk",
    })
  end
end

function request()
  at = (at + step) % count
  return requests[at]
end
