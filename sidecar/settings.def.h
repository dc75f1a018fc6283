/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of `serve`: one table feeds the struct, the flags, the environment names (MCPCACHED_<NAME>) and --help.
 * SETTING(field, "flag", TYPE, "default", "argument", "text") - TYPE: TEXT, DURATION (ms), SIZE (bytes), COUNT (to 1024), NUMBER (to 16 Mi), LIST (flag may be repeated; comma-separated in
 * the environment). A default of "" means: not set. */
SETTING(listen, "listen", TEXT, "127.0.0.1:8080", "ADDR:PORT",
        "where MCP clients connect; port 0 takes a free one and the log says which")
SETTING(upstream, "upstream", TEXT, "", "URL",
        "the MCP server behind, http:// or https:// with the path it serves MCP on; required")
SETTING(policy, "policy", TEXT, "", "FILE|DIR",
        "policy file, or a directory of them read in name order; without it only the server's own hints count")
SETTING(store, "store", TEXT, "/var/cache/mcpcached", "DIR", "directory of the store; created when missing, kept over restarts")
SETTING(store_size_bytes, "store-size", SIZE, "256MiB", "SIZE", "size of the store's file at most; at least 8MiB")
SETTING(principal_share_percent, "principal-share", COUNT, "25", "PERCENT",
        "how much of a full store one principal may hold, 1 to 100; whoever holds more gives room first. 100: no limit")
SETTING(threads, "threads", COUNT, "0", "N", "event loops; 0 means one for each CPU this process may use")
SETTING(allow_origin, "allow-origin", LIST, "", "ORIGIN",
        "web origin whose requests are served; may be repeated. Others get 403. Without any, requests with an Origin are forwarded "
        "and never answered "
        "from the store")
SETTING(upstream_ca, "upstream-ca", TEXT, "", "FILE",
        "PEM certificates that an https upstream must chain to, instead of the system's")
SETTING(upstream_host, "upstream-host", TEXT, "keep", "keep|upstream",
        "Host header sent upstream: the client's (keep), or the upstream URL's own")
SETTING(connect_timeout_ms, "connect-timeout", DURATION, "5s", "TIME", "how long connecting upstream may take (TLS included)")
SETTING(first_byte_timeout_ms, "first-byte-timeout", DURATION, "10m", "TIME",
        "how long the upstream may take to begin its answer (a GET on the MCP path has no limit); after that the client judges, "
        "and when it has left, this limits pauses")
SETTING(upstream_keepalive_ms, "upstream-keepalive", DURATION, "4s", "TIME",
        "how long an idle upstream connection is kept; below the upstream's own limit (Node's is 5s)")
SETTING(idle_timeout_ms, "idle-timeout", DURATION, "75s", "TIME",
        "how long a client's connection may be idle between requests, or take to send one")
SETTING(header_timeout_ms, "header-timeout", DURATION, "10s", "TIME",
        "how long a request's headers may take to arrive, from their first byte; slower ones get 408. 0: no limit. This one, "
        "body-timeout and write-timeout are "
        "noticed up to two seconds late")
SETTING(body_timeout_ms, "body-timeout", DURATION, "30s", "TIME",
        "how long a request's body may take to arrive behind its headers; slower ones get 408. 0: no limit")
SETTING(write_timeout_ms, "write-timeout", DURATION, "60s", "TIME",
        "how long a client may take nothing of an answer that waits to be sent; then it is cut off. Silent streams are not "
        "touched. 0: no limit")
SETTING(max_header_bytes, "max-header", SIZE, "16KiB", "SIZE",
        "request line and headers at most; larger ones get 431. No more than 100 headers in any case")
SETTING(max_body_bytes, "max-body", SIZE, "4MiB", "SIZE", "request body at most; larger ones get 413")
SETTING(max_entry_bytes, "max-entry", SIZE, "2MiB", "SIZE", "result at most that is stored; larger ones pass through")
SETTING(max_key_bytes, "max-key", SIZE, "64KiB", "SIZE",
        "canonical parameters at most that make a key; requests with larger ones pass through")
SETTING(max_depth, "max-depth", COUNT, "64", "N",
        "JSON objects and arrays inside each other, 1 to 512; requests that nest deeper pass through")
SETTING(max_sessions, "max-sessions", NUMBER, "8192", "N",
        "legacy sessions and credentials that are known at once; others have to be proven again")
SETTING(max_proofs, "max-proofs", NUMBER, "65536", "N",
        "acceptances by the upstream that are remembered at once (one for each caller, and for each caller and tool)")
SETTING(max_streams, "max-streams", NUMBER, "1024", "N",
        "event streams (GET, subscriptions/listen) open at once; one more gets 503")
SETTING(subscriptions, "subscriptions", TEXT, "on", "on|off",
        "whether changes are told to subscribers where the upstream does not do it itself: what it says it can do is completed, "
        "subscriptions are kept here, and what is subscribed to is asked for again when its lifetime ends")
SETTING(watch_interval_ms, "watch-interval", DURATION, "30s", "TIME",
        "how often something that is subscribed to, and has no lifetime of its own, is asked for again; 0: never")
SETTING(stream_keepalive_ms, "stream-keepalive", DURATION, "15s", "TIME",
        "after how much silence a comment is written on an event stream, so that nothing on the way takes it for dead; 0: never")
SETTING(max_subscriptions, "max-subscriptions", NUMBER, "65536", "N",
        "resources and lists that all clients together may be subscribed to here; one more is refused, or not acknowledged")
SETTING(
    poll_rate, "poll-rate", NUMBER, "20", "N",
    "questions per second that are asked in one caller's name because of what he is subscribed to, ten times as many at once; 0: "
    "no limit")
SETTING(max_flights, "max-flights", NUMBER, "4096", "N",
        "fetches that requests for the same thing may share at once; over it each request goes upstream for itself")
SETTING(max_waiters, "max-waiters", NUMBER, "1024", "N", "requests that may wait for one fetch; one more goes upstream for itself")
SETTING(max_refreshes, "max-refreshes", NUMBER, "16", "N",
        "stale entries that are renewed in the background at once; over it they stay stale until asked for again")
SETTING(insert_rate, "insert-rate", NUMBER, "100", "N",
        "results of one principal that are stored per second, ten times as many at once; 0: no limit")
SETTING(admin, "admin", TEXT, "", "ADDR:PORT|unix:PATH",
        "where operators purge, away from the MCP port: a Unix socket, which is its owner's alone, or an address, which needs "
        "admin-token-file; without it there is no such place")
SETTING(admin_token_file, "admin-token-file", TEXT, "", "FILE",
        "its first line is the token that every request to the admin listener must bring (Authorization: Bearer); 16 characters or "
        "more")
SETTING(drain_ms, "drain", DURATION, "5s", "TIME", "how long answers may take to finish after SIGTERM")
SETTING(log_format, "log", TEXT, "text", "text|json", "format of the log on stderr")
SETTING(log_level, "log-level", TEXT, "info", "error|warn|info|debug", "how much is logged; info has one line per request")
