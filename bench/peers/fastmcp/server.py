# SPDX-License-Identifier: Apache-2.0
"""FastMCP with its own ResponseCachingMiddleware and its usual memory store; its answers are those of load/content.h. Usage: server.py PORT"""
import sys

from fastmcp import FastMCP
from fastmcp.server.middleware.caching import ResponseCachingMiddleware

ALPHABET = b'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
SHIFT = 4096


def make_pattern(n):
    x, out = 2463534242, bytearray(n)
    for i in range(n):
        x ^= (x << 13) & 0xffffffff
        x ^= x >> 17
        x ^= (x << 5) & 0xffffffff
        out[i] = ALPHABET[x & 63]
    return out.decode()


PATTERN = make_pattern((1 << 19) + SHIFT)


def content_of(tool, args, size):
    value = 2166136261
    for byte in f'{tool} {args} -'.encode():
        value = ((value ^ byte) * 16777619) & 0xffffffff
    mark = f'{tool}#{value:08x}/{size}/- '
    start = value % SHIFT
    return mark + PATTERN[start:start + max(0, size - len(mark))]


server = FastMCP('bench', middleware=[ResponseCachingMiddleware()])


@server.tool(output_schema=None)
def get_0(key: str, size: int):
    return content_of('get_0', f'{{"key":"{key}","size":{size}}}', size)


server.run(transport='http', host='127.0.0.1', port=int(sys.argv[1]), path='/mcp', json_response=True, stateless_http=True, show_banner=False,
           log_level='warning')
