"""`larder check` and `larder explain` on the seed's configuration and on broken ones."""

import json

from harness import lab as labs
from harness.origin import Answer
from harness.story import check, equal, story

RPM = "http://mirror.23media.de/centos/7.9/os/x86_64/Packages/pantry-1.0-1.x86_64.rpm"
STORE_ID = "http://rpmcache.squid.internal/7.9/os/x86_64/Packages/pantry-1.0-1.x86_64.rpm"
# A broken squid.conf, and where its first error is: line:column.
BROKEN = {
    "unknown directive": ("http_port 3128\nhttp_prot 3129\n", "2:1"),
    "bad regular expression": ("http_port 3128\nacl a url_regex ^http://[\n", "2:25"),
    "access list of an unknown name": ("http_port 3128\nhttp_access allow nobody\n", "2:19"),
    "port that is no number": ("http_port http\n", "1:11"),
    "bad network": ("http_port 3128\nacl lan src 192.168.0.300/24\n", "2:13"),
    "bad refresh pattern": ("http_port 3128\nrefresh_pattern . ten 20% 100\n", "2:19"),
    "unknown acl type": ("http_port 3128\nacl a dstdomian .example.org\n", "2:7"),
    "size that is none": ("http_port 3128\ncache_dir aufs /tmp/x lots 16 256\n", "2:23"),
    "one acl of two types": ("http_port 3128\nacl a port 80\nacl a src 10.0.0.0/8\n", "3:7"),
    "missing included file": ("http_port 3128\ninclude /no/such/file.conf\n", "2:9"),
}


@story(larder_only=True)
def check_accepts_the_seed_and_notes_its_traps(lab):
    """`check` on the files as they are in the tree exits 0 and notes the open proxy, the rule that
    fits CentOS paths only, the obsolete option and the catch-all rule over repomd.xml."""
    done = lab.driver.command("check", "--squid-conf", str(lab.write("squid.conf", lab.seed_conf())))
    said = (done.stdout + done.stderr).lower()
    equal(done.returncode, 0, f"exit code; it said {said}")
    for word in ("open proxy", "centos", "ignore-no-cache", "repomd.xml"):
        check(word in said, f"no note on {word}: {said}")


@story(larder_only=True)
def check_finds_the_place_of_each_error(lab):
    """`check` and `serve` exit 2 on each broken configuration and name file, line and column."""
    wrong = []
    for name, (text, place) in BROKEN.items():
        conf = str(lab.write("broken.conf", text))
        for command in ("check", "serve"):
            done = lab.driver.command(command, "--squid-conf", conf)
            if done.returncode != 2 or f"{conf}:{place}" not in done.stdout + done.stderr:
                said = (done.stdout + done.stderr).strip()
                wrong.append(f"{command}, {name}: exit {done.returncode}, wanted {place}, said {said}")
    check(not wrong, "\n".join(wrong))


@story(larder_only=True)
def space_for_the_tab_is_an_error_that_says_so(lab):
    """A storeid.db line with a space where the TAB belongs: exit 2, its place, and the word TAB."""
    conf = lab.seed_conf()
    rules = labs.SEED_STORE_IDS.read_text(encoding="utf-8").replace("\t", " ")
    store_ids = lab.write("storeid.db", rules)
    done = lab.driver.command("check", "--squid-conf", str(lab.write("squid.conf", conf)))
    said = done.stdout + done.stderr
    equal(done.returncode, 2, f"exit code; it said {said}")
    check(f"{store_ids}:1:" in said and "tab" in said.lower(), said)


@story(larder_only=True)
def explain_tells_the_rules_and_the_key(lab):
    """`explain URL` names the access line, the class, the store-ID rule, the refresh rule and the
    key; after a fill it says that the cache holds the object."""
    conf = str(lab.write("explained.conf", lab.seed_conf()))
    done = lab.driver.command("explain", RPM, "--squid-conf", conf)
    equal(done.returncode, 0, f"exit code; it said {done.stderr}")
    for words in ("http_access allow localhost", "immutable", STORE_ID, "43200", "storeid.db"):
        check(words in done.stdout, f"no {words!r} in: {done.stdout}")
    origin = lab.origin("mirror.23media.de")
    origin.put(RPM.removeprefix("http://mirror.23media.de"), Answer(body=b"package"))
    proxy = lab.seed_proxy()
    proxy.whole(RPM)
    equal(proxy.stop(), 0, "exit code")
    held = lab.driver.command("explain", RPM, "--squid-conf", conf, "--json")
    equal(held.returncode, 0, f"exit code; it said {held.stderr}")
    check(json.loads(held.stdout), "no JSON")
    check(held.stdout != lab.driver.command("explain", RPM + "x", "--squid-conf", conf, "--json").stdout,
          "the same answer for an object that is not there")  # fmt: skip


@story(larder_only=True)
def helps_have_examples(lab):
    """`--help` of each command exits 0 and shows an example."""
    for command in ("serve", "check", "explain"):
        done = lab.driver.command(command, "--help")
        equal(done.returncode, 0, f"exit code of {command} --help")
        check(f"larder {command} -" in done.stdout or f"larder {command} http" in done.stdout,
              f"{command} --help shows no example")  # fmt: skip
