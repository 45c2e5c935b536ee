"""Which requests are for the same object, and which must never be."""

from harness.origin import Answer
from harness.story import check, equal, story

RPM = "/7.9/os/x86_64/Packages/pantry-1.0-1.x86_64.rpm"


@story()
def spelling_of_the_plus_does_not_matter(lab):
    """dnf asks for `x%2b.rpm`, apt and curl for `x+.rpm`: one object, drawn once."""
    origin = lab.origin()
    paths = [f"/7.9/os/x86_64/Packages/x{plus}.rpm" for plus in ("%2b", "+", "%2B")]
    for path in paths:
        origin.put(path, Answer(body=b"same"))
    proxy = lab.seed_proxy()
    for path in paths:
        equal(proxy.whole(origin.url + path), b"same", path)
    equal(len(origin.requests), 1, "requests at the origin")


@story(squid_fails="the store ID is unescaped, so that p%2Fq and p/q collide")
def escaped_slash_is_another_object(lab):
    """`p%2Fq` and `p/q` are two objects, also under a store-ID rule."""
    origin = lab.origin()
    paths = [f"/7.9/os/x86_64/Packages/p{slash}q-1-1.x86_64.rpm" for slash in ("%2F", "/")]
    for path in paths:
        origin.put(path, Answer(body=path.encode()))
    proxy = lab.seed_proxy()
    for path in paths * 2:
        equal(proxy.whole(origin.url + path), path.encode(), path)


@story()
def package_is_shared_whatever_its_mirror_and_query(lab):
    """Under the seed's rule a package is one object for all mirrors, prefixes and queries."""
    first = lab.origin("mirror3.example.org")
    other = lab.origin("mirror4.example.net")
    first.put(f"/centos{RPM}", Answer(body=b"package"))
    proxy = lab.seed_proxy()
    for url in (f"{first.url}/centos{RPM}", f"{other.url}{RPM}", f"{other.url}/x/y{RPM}?a=1"):
        equal(proxy.whole(url), b"package", url)
    equal((len(first.requests), len(other.requests)), (1, 0), "requests at the mirrors")


@story()
def metadata_is_never_shared_between_mirrors(lab):
    """Each mirror's repomd.xml is its own: mirrors lag behind each other."""
    mirrors = lab.mirrors()
    proxy = lab.seed_proxy()
    path = "/7.9/os/x86_64/repodata/repomd.xml"
    for mirror in mirrors:
        mirror.put(path, Answer(body=mirror.address.encode()))
    for mirror in mirrors * 2:
        equal(proxy.whole(mirror.url + path), mirror.address.encode(), mirror.url)


@story(squid_fails="a URL and a store ID that read the same are the same key")
def store_id_cannot_be_asked_for_from_outside(lab):
    """The URL that a store-ID rule makes is no way to the object: a client that asks for it neither
    hits what the rule shares nor puts something in its place."""
    origin = lab.origin("mirror3.example.org")
    impostor = lab.origin("mirror4.example.net")
    origin.put("/pool/file-1.0-1.noarch.rpm", Answer(body=b"package"))
    impostor.put("/file-1.0-1.noarch.rpm", Answer(body=b"impostor"))
    impostor.put("/file-2.0-1.noarch.rpm", Answer(body=b"impostor"))
    origin.put("/pool/file-2.0-1.noarch.rpm", Answer(body=b"package"))
    rules = lab.write("rules.db", "/pool/(.*\\.rpm)\thttp://mirror4.example.net/$1\n")
    helper = f"store_id_program /usr/lib/squid/storeid_file_rewrite {rules}\n"
    proxy = lab.open_proxy(more=helper)
    equal(proxy.whole(f"{origin.url}/pool/file-1.0-1.noarch.rpm"), b"package", "body")
    equal(proxy.whole(f"{impostor.url}/file-1.0-1.noarch.rpm"), b"impostor", "body of the URL")
    equal(proxy.whole(f"{impostor.url}/file-2.0-1.noarch.rpm"), b"impostor", "body of another URL")
    equal(proxy.whole(f"{origin.url}/pool/file-2.0-1.noarch.rpm"), b"package", "body by the rule")


@story(squid_fails="a variant takes the other's place")
def variants_are_kept_apart(lab):
    """Answers that vary by Accept-Encoding are kept side by side, each for the requests that
    match it."""
    origin = lab.origin()
    vary = {"Vary": "Accept-Encoding", "Cache-Control": "max-age=600"}
    packed = Answer(body=b"gz", etag='"g"', headers=vary | {"Content-Encoding": "gzip"})
    origin.put("/page", packed, Answer(body=b"plain", etag='"p"', headers=vary), packed)
    proxy, url = lab.proxy(), f"{origin.url}/page"
    for encoding, body in (("gzip", b"gz"), ("identity", b"plain"), ("gzip", b"gz")):
        equal(proxy.whole(url, {"Accept-Encoding": encoding}), body, f"body for {encoding}")
    equal(proxy.whole(url, {"Accept-Encoding": "identity"}), b"plain", "body for identity again")
    equal(origin.count("/page"), 2, "requests at the origin")


@story(squid_fails="escapes and dot segments are kept as they are")
def equal_urls_are_one_object(lab):
    """Spellings of one URL that the standard calls the same are one object: host in capitals, the
    default port, escapes of plain letters, dot segments."""
    origin = lab.origin("mirror3.example.org")
    for path in ("/a/file-1.0-1.noarch.rpm", "/a/%66ile-1.0-1.noarch.rpm", "/b/../a/file-1.0-1.noarch.rpm"):
        origin.put(path, Answer(body=b"one"))
    proxy = lab.proxy()
    for url in (
        "http://mirror3.example.org/a/file-1.0-1.noarch.rpm",
        "http://MIRROR3.Example.org:80/a/file-1.0-1.noarch.rpm",
        "http://mirror3.example.org/a/%66ile-1.0-1.noarch.rpm",
        "http://mirror3.example.org/b/../a/file-1.0-1.noarch.rpm",
    ):
        equal(proxy.whole(url), b"one", url)
    equal(len(origin.requests), 1, "requests at the origin")
