-- Ten thousand keys in turn, in an order that no cache of recent keys likes. BENCH_KEYS names the file.
local step, at, requests = 7919, 0, {}

function init()
  for line in io.lines(os.getenv("BENCH_KEYS")) do
    requests[#requests + 1] = wrk.format("GET", "/api/v1/transactions/txn_123", {
      ["Host"] = "api.example.com",
      ["Authorization"] = "Bearer " .. line:match("^%S+"),
      ["Accept"] = "application/json",
      ["User-Agent"] = "wrk",
    })
  end
end

function request()
  at = (at + step) % #requests
  return requests[at + 1]
end
