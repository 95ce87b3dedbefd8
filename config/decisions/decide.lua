-- Asks entrada about each request, as Traefik does: a listener with `dialect: traefik`.
-- `setenv ENTRADA_DECIDE http://127.0.0.1:9193/decide` stands in `global`, before `lua-load`.

local address = os.getenv("ENTRADA_DECIDE")
local timeout = 1000

-- Fields of the client's own connection, and the five by which the question is asked.
local not_asked = {
    ["connection"] = true, ["content-length"] = true, ["expect"] = true, ["host"] = true, ["http2-settings"] = true,
    ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true,
    ["upgrade"] = true,
    ["x-forwarded-for"] = true, ["x-forwarded-host"] = true, ["x-forwarded-method"] = true, ["x-forwarded-proto"] = true,
    ["x-forwarded-uri"] = true,
}
-- Fields of an answer that are not for the client.
local not_told = { ["connection"] = true, ["content-length"] = true, ["keep-alive"] = true, ["transfer-encoding"] = true }

local function tell(txn, answer)
    local reply = txn:reply({ status = answer.status })
    for name, values in pairs(answer.headers) do
        if not not_told[name:lower()] then
            -- From 0, in the order in which they came: challenges are a list.
            for at = 0, #values do
                reply:add_header(name, values[at])
            end
        end
    end
    reply:set_body(answer.body or "")
    txn:done(reply)
end

core.register_action("decide", { "http-req" }, function(txn)
    local received = txn.http:req_get_headers()
    local headers = {}
    for name, values in pairs(received) do
        if not not_asked[name] then
            headers[name] = values
        end
    end
    local host = received["host"]
    headers["x-forwarded-method"] = { txn.f:method() }
    headers["x-forwarded-uri"] = { txn.f:pathq() }
    headers["x-forwarded-host"] = { host and host[0] or "" }
    headers["x-forwarded-proto"] = { txn.f:ssl_fc() == 1 and "https" or "http" }
    headers["x-forwarded-for"] = { txn.f:src() }
    -- Whether a WebSocket opens: only some routes allow that.
    local upgrade = received["upgrade"]
    if upgrade and upgrade[0] and upgrade[0]:lower():find("websocket", 1, true) then
        headers["connection"] = { "upgrade" }
        headers["upgrade"] = { "websocket" }
    end

    -- Without an answer nothing is set, and the request is refused by the line behind this action.
    local answer = core.httpclient():get({ url = address, headers = headers, timeout = timeout })
    if not answer or not answer.status or answer.status < 200 then
        return
    end
    if answer.status == 200 then
        for name, values in pairs(answer.headers) do
            local value = values[0]
            if value then
                txn:set_var("txn.entrada." .. name:lower():gsub("%-", "_"), value)
            end
        end
        txn:set_var("txn.entrada_admitted", true)
    elseif answer.status >= 300 then
        tell(txn, answer)
    end
end, 0)
