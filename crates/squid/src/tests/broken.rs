//! Broken files, and what is said of each: `file:line:column+length text | mend`.

pub(super) const FILES: [(&str, &str); 21] = [
    (
        "http_port 3128\nhttp_acces allow all\n",
        "squid.conf:2:1+10 there is no directive `http_acces` | did you mean `http_access`?",
    ),
    (
        "http_port 3128\nfrobnicate on\n",
        "squid.conf:2:1+10 there is no directive `frobnicate` | remove it; Squid does not \
             know it either",
    ),
    (
        "http_port 3128\nacl a url_regex ok a(b\n",
        "squid.conf:2:22+1 not a regular expression: a `(` is not closed | put a `\\` before \
             a character that means itself",
    ),
    (
        "http_port 3128\nrefresh_pattern *.rpm 0 20% 4320\n",
        "squid.conf:2:17+1 not a regular expression: nothing stands before the repetition | \
             put a `\\` before a character that means itself",
    ),
    (
        "http_port 3128\nhttp_port 127.0.0.1:3128\n",
        "squid.conf:2:1+9 port 3128 is taken by line 1 already | give one of them another \
             port or address",
    ),
    (
        "http_port 3128 acel\n",
        "squid.conf:1:16+4 http_port has no option `acel` | did you mean `accel`?",
    ),
    (
        "http_port 3128 ssl-bump cert=/x\n",
        "squid.conf:1:16+8 opening clients' TLS connections (ssl-bump) is not supported | let \
             clients tunnel (CONNECT), or put a TLS server in front",
    ),
    (
        "http_port 3128\nhttp_access allow localnets\nacl localnet src 10.0.0.0/8\n",
        "squid.conf:2:19+9 there is no acl `localnets` | did you mean `localnet`?",
    ),
    (
        "http_port 3128\nacl x src 10.0.0.0/33\n",
        "squid.conf:2:11+11 `10.0.0.0/33` is no address, network or range of addresses | \
             write an address, a network as 10.0.0.0/8, or a range as 10.0.0.1-10.0.0.9",
    ),
    (
        "http_port 3128\nacl x src 10.0.0.1\nacl x port 80\n",
        "squid.conf:3:7+4 acl `x` has the type src already | give it another name, or the \
             same type",
    ),
    (
        "http_port 3128\nacl x dstdomains a\n",
        "squid.conf:2:7+10 there is no acl type `dstdomains` | did you mean `dstdomain`?",
    ),
    (
        "http_port 3128\nacl auth proxy_auth REQUIRED\nhttp_access deny auth\n",
        "squid.conf:3:18+4 `auth` is of the type proxy_auth, which larder cannot decide | \
             write the rule with addresses, names, ports, methods or URLs",
    ),
    (
        "http_port 3128\nmaximum_object_size 4 QB\n",
        "squid.conf:2:21+1 `4 QB` is no size | write a number and bytes, KB, MB or GB",
    ),
    (
        "http_port 3128\ncache_dir aufs /c lots 16 256\n",
        "squid.conf:2:19+4 `lots` is no number of megabytes | write a whole number",
    ),
    (
        "http_port 3128\ncache_replacement_policy lfuda\n",
        "squid.conf:2:26+5 there is no replacement policy `lfuda` | write lru, heap LFUDA, \
             heap GDSF or heap LRU (in these letters)",
    ),
    (
        "http_port 3128\nstore_id_program /usr/lib/squid/storeid_file_rewrite /nowhere\n",
        "squid.conf:2:54+8 /nowhere cannot be read: no such file | name a file that this user \
             can read",
    ),
    (
        "http_port 3128\ninclude /gone.conf\n",
        "squid.conf:2:9+10 /gone.conf cannot be read: no such file | name a file that this \
             user can read",
    ),
    (
        "http_port {{ port }}\nhttp_access {{ x }}\nfoo\n",
        "squid.conf:1:1+20 this file is a template, no configuration yet: its variables are \
             not filled in | let the tool that it is made for write the file",
    ),
    (
        "http_port 3128\nif true\n",
        "squid.conf:2:1+2 `if` without `endif` | put `endif` on a line of its own",
    ),
    (
        "http_port 3128\ncache_peer p parent 8080 0 no-query tls\n",
        "squid.conf:2:1+10 TLS to a parent proxy is not supported, and requests must not go \
             in the clear | add originserver if it is an origin, or use a parent without TLS",
    ),
    (
        "http_access deny all\n",
        "squid.conf:1:1+1 there is no http_port | add http_port 3128",
    ),
];
