"""Copies of requests to another backend, whose answers nobody reads: what HAProxy does with a little Lua.

Copied are GET, HEAD, POST, PUT and DELETE, with bodies that fit a buffer (16 KB), as HTTP/1.1.
"""

from __future__ import annotations

from collections.abc import Iterable

from peavine.ingress.model import WEIGHT_SCALE, Backend

FILE = "mirror.lua"

SCRIPT = f"""\
math.randomseed(os.time())
local methods = {{GET = "get", HEAD = "head", POST = "post", PUT = "put", DELETE = "delete"}}

local function send(backend, method, path, headers, body)
  local up = {{}}
  for _, server in pairs(core.backends[backend].servers) do
    if server:get_stats()["status"] ~= "MAINT" then table.insert(up, server:get_addr()) end
  end
  if #up == 0 then return end
  local client = core.httpclient()
  local url = "http://" .. up[math.random(#up)] .. path
  client[methods[method]](client, {{url = url, headers = headers, body = body, timeout = 5000}})
end

local function mirror(txn, backend, share)
  local method = txn.sf:method()
  if not methods[method] or math.random(0, {WEIGHT_SCALE - 1}) >= tonumber(share) then return end
  local path, headers, body = txn.sf:pathq(), txn.http:req_get_headers(), txn.sf:req_body()
  local length = headers["content-length"]
  if length and tonumber(length[0]) > #body then return end
  for _, name in pairs({{"content-length", "transfer-encoding", "connection"}}) do headers[name] = nil end
  core.register_task(function() send(backend, method, path, headers, body) end)
end

core.register_action("mirror", {{"http-req"}}, mirror, 2)
"""


def lines_to(backend: str, share: float) -> list[str]:
    """Lines of a backend that copy a share (0 to 1) of its requests to another one."""
    return ["option http-buffer-request", f"http-request lua.mirror {backend} {int(share * WEIGHT_SCALE)}"]


def is_used(backends: Iterable[Backend]) -> bool:
    return any(line.startswith("http-request lua.mirror ") for b in backends for line in b.lines)
