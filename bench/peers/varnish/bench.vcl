vcl 4.1;
# Varnish as near as it comes: with bodyaccess the body is part of the key, id included. It cannot read JSON, nor write another id into what it keeps.
import std;
import bodyaccess;

backend default { .host = "127.0.0.1"; .port = "@UPSTREAM@"; }

sub vcl_recv {
    unset req.http.X-Is-Post;
    if (req.method == "POST") {
        std.cache_req_body(64KB);
        set req.http.X-Is-Post = "1";
        return (hash);
    }
    return (pass);
}

sub vcl_hash {
    hash_data(req.http.Authorization);
    bodyaccess.hash_req_body();
}

sub vcl_backend_fetch {
    if (bereq.http.X-Is-Post) { set bereq.method = "POST"; }
}

sub vcl_backend_response {
    if (beresp.status == 200) { set beresp.ttl = @TTL@; }
}

sub vcl_deliver {
    if (obj.hits > 0) { set resp.http.X-Cache = "HIT"; }
}
