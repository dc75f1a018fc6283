-- SPDX-License-Identifier: Apache-2.0
-- A cache for tools/call as one would write it in nginx: the caller, the tool and its arguments, in an order of their own, are the key; the result is kept as text.
-- It does not ask whether the caller is still let in, knows no writes, no purges and no notifications, and cjson reads integers beyond 2^53 as doubles.
local cjson = require "cjson.safe"
local answers = ngx.shared.answers
local TTL = tonumber(("@TTL@"):match("%d+"))

local function canonical(value, out)
    if type(value) ~= "table" then
        out[#out + 1] = cjson.encode(value)
        return
    end
    if value[1] ~= nil then
        out[#out + 1] = "["
        for i = 1, #value do
            canonical(value[i], out)
            out[#out + 1] = ","
        end
        out[#out + 1] = "]"
        return
    end
    local names = {}
    for name in pairs(value) do names[#names + 1] = name end
    table.sort(names)
    out[#out + 1] = "{"
    for _, name in ipairs(names) do
        out[#out + 1] = cjson.encode(name)
        out[#out + 1] = ":"
        canonical(value[name], out)
        out[#out + 1] = ","
    end
    out[#out + 1] = "}"
end

ngx.req.read_body()
local body = ngx.req.get_body_data()
local message = body and cjson.decode(body)
local params = message and message.params
local key
if params and message.method == "tools/call" and params.name:sub(1, 3) ~= "put" then
    local out = { ngx.var.http_authorization or "", "\n", ngx.var.http_mcp_protocol_version or "", "\n", params.name, "\n" }
    canonical(params.arguments or {}, out)
    key = ngx.sha1_bin(table.concat(out))
    local result = answers:get(key)
    if result then
        local id = cjson.encode(message.id)
        ngx.header["X-Cache"] = "HIT"
        ngx.header["Content-Type"] = "application/json"
        ngx.header["Content-Length"] = 33 + #id + #result
        ngx.print('{"jsonrpc":"2.0","id":', id, ',"result":', result, "}")
        return
    end
end
local reply = ngx.location.capture("/behind", { method = ngx.HTTP_POST, body = body })
if key and reply.status == 200 and not reply.truncated then
    local said = cjson.decode(reply.body)
    local from = reply.body:find('"result":', 1, true)
    if said and said.result and not said.result.isError and from then
        answers:set(key, reply.body:sub(from + 9, -2), TTL)
    end
end
ngx.status = reply.status
for _, name in ipairs { "Content-Type", "Mcp-Session-Id" } do ngx.header[name] = reply.header[name] end
ngx.header["Content-Length"] = #reply.body
ngx.print(reply.body)
