#!/usr/bin/python3
"""matchbox's units of deploy/, with exactly the user and the capabilities that they say.

The key is root's alone, the data directory another user's, as real ones are: the server must start, and
write what terraform puts and what it remembers itself. Then as a user who may not read an asset: that is
its own refusal. Prints `ok NAME` or `FAIL NAME why` for each check.
"""
import json
import os
import pathlib
import re
import stat
import tempfile

from checks import REPOSITORY, check, end, skip
from rpc import Server, channel, generated, http_get

# Nobody's number here; the data directory is theirs.
OWNER = 12345


def values(unit, key):
    """A key's values in a unit."""
    return re.findall(rf"^{key}=(.*)$", (REPOSITORY / "deploy" / unit).read_text(), re.M)


def words_of(unit):
    """`setpriv` with what the unit asks for."""
    user, group = (values(unit, key) or ["0"] for key in ("User", "Group"))
    if unit.endswith(".container"):
        check(f"{unit}: drops-all", values(unit, "DropCapability") == ["all"])
        names = values(unit, "AddCapability")
    else:
        names = values(unit, "CapabilityBoundingSet")
    check(f"{unit}: no-new-privileges", values(unit, "NoNewPrivileges")[0] in ("yes", "true"))
    kept = ",".join(["-all", *(f"+{name.lower().removeprefix('cap_')}" for name in " ".join(names).split())])
    return ["setpriv", f"--reuid={user[0]}", f"--regid={group[0]}", "--clear-groups", "--no-new-privs",
            f"--bounding-set={kept}", "--inh-caps=-all", "--ambient-caps=-all", "--"]


def as_unit(unit, work, modules):
    work.mkdir()
    server = Server(work, words_of(unit), OWNER)
    try:
        machines_and_terraform(unit, server, modules)
    finally:
        server.stop()


def machines_and_terraform(unit, server, modules):
    storage, pb, stubs = modules
    import grpc
    key = (server.pki / "server.key").stat()
    check(f"{unit}: the-key-is-roots", key.st_uid == 0 and stat.S_IMODE(key.st_mode) == 0o600, oct(key.st_mode))
    connection = channel(grpc, server)
    boot = storage.NetBoot(kernel="/k", initrd=["/i"])
    put = stubs.ProfilesStub(connection).ProfilePut
    put(pb.ProfilePutRequest(profile=storage.Profile(id="p", boot=boot)), timeout=60)
    group = storage.Group(id="g", profile="p", metadata=json.dumps({"install_once": True}).encode())
    stubs.GroupsStub(connection).GroupPut(pb.GroupPutRequest(group=group), timeout=60)
    check(f"{unit}: puts-are-written", (server.data / "groups/g.json").exists())
    answer = http_get(server.http, "/ipxe?mac=52-54-00-00-00-01")
    check(f"{unit}: machines-see-it", b"kernel /k" in answer, answer)
    remembered = server.data / ".larder/machines"
    check(f"{unit}: machines-are-remembered", remembered.exists() and remembered.stat().st_size > 0)
    connection.close()


def unreadable_asset(work):
    """Of root nothing can be kept, so the server is a user with no power at all."""
    work.mkdir()
    prefix = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups", "--bounding-set=-all", "--"]
    for folder in [work, *work.parents]:
        if folder.is_relative_to(tempfile.gettempdir()) and folder != pathlib.Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    server = Server(work, prefix, OWNER, secret=False)
    for name in ("readable", "secret"):
        (server.data / "assets" / name).write_text(name)
    (server.data / "assets/secret").chmod(0o600)
    (server.data / "assets/closed").mkdir(mode=0o700)
    said = {name: http_get(server.http, f"/assets/{name}").split(b"\r\n", 1)[0]
            for name in ("readable", "secret", "closed/", "closed/x", "none")}
    codes = {name: int(line.split()[1]) for name, line in said.items()}
    wanted = {"readable": 200, "secret": 403, "closed/": 403, "closed/x": 403, "none": 404}
    check("what-may-not-be-read-is-forbidden", codes == wanted, str(codes))
    answer = http_get(server.http, "/assets/secret").lower()
    check("and-says-why", b"x-larder-reason:" in answer and answer.endswith(b"403 forbidden\n"), answer)
    server.stop()


def main():
    if os.geteuid() != 0:
        skip("deploy", "os.geteuid(): only root can be another user")
        end()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        modules = generated(folder)
        for unit in ("matchbox.container", "matchbox.service"):
            as_unit(unit, work / unit, modules)
        unreadable_asset(work / "asset")
    end()


if __name__ == "__main__":
    main()
