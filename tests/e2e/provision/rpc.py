#!/usr/bin/python3
"""An RPC client made from the .proto files by Debian's python3-grpc-tools does every call.

It is no code of larder's: what passes here passes with terraform's provider, whose sequence of
calls is replayed at the end. Prints `ok NAME` or `FAIL NAME why` for each check.
"""
import importlib
import json
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

from checks import LARDER, REPOSITORY, check, end

PROTO = REPOSITORY / "crates/provision/proto"


def generated(folder):
    """The messages and stubs of the .proto files."""
    from grpc_tools import protoc

    names = ["storage.proto", "server.proto", "rpc.proto"]
    words = ["protoc", f"-I{PROTO}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(words + names) != 0:
        sys.exit("protoc failed")
    sys.path.insert(0, folder)
    return [importlib.import_module(f"{name}_pb2") for name in ("storage", "server")] + [
        importlib.import_module("rpc_pb2_grpc")
    ]


class Server:
    """A running `larder matchbox` with the addresses that it said.

    `prefix` are words before its own, `owner` the user whose data directory it is, if not ours. Where the
    keys are not `secret`, they are that user's too."""

    def __init__(self, work, prefix=(), owner=None, secret=True):
        self.data = work / "data"
        self.data.mkdir()
        (self.data / "assets").mkdir()
        if owner is not None:
            subprocess.run(["chown", "-R", f"{owner}:{owner}", self.data], check=True)
        self.pki = work / "pki"
        run = subprocess.run(
            [LARDER, "provision", "pki", "init", "--dir", self.pki, "--san", "localhost", "--san", "127.0.0.1"],
            capture_output=True, text=True)
        check("pki-init", run.returncode == 0, run.stderr)
        again = subprocess.run(
            [LARDER, "provision", "pki", "init", "--dir", self.pki, "--san", "x"], capture_output=True, text=True)
        check("pki-init-overwrites-nothing", again.returncode == 1 and "exists" in again.stderr, again.stderr)
        if not secret:
            subprocess.run(["chown", "-R", f"{owner}:{owner}", self.pki], check=True)
        self.process = subprocess.Popen(
            [*prefix, LARDER, "matchbox", "-address=127.0.0.1:0", "-rpc-address", "127.0.0.1:0",
             f"-data-path={self.data}", "-assets-path", self.data / "assets",
             "-cert-file", self.pki / "server.crt", "-key-file", self.pki / "server.key",
             "--ca-file", self.pki / "ca.crt"],
            stderr=subprocess.PIPE, text=True)
        self.http = self.said("provision")
        self.rpc = self.said("rpc")
        self.log = []
        self.listener = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.listener.start()

    def said(self, mode):
        for line in self.process.stderr:
            found = re.search(rf"listening mode={mode} address=(\S+)", line)
            if found:
                return found[1]
        sys.exit(f"FAIL start no listener for {mode}")

    def file(self, name):
        return (self.pki / name).read_bytes()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        check("ends-on-term", self.process.wait(timeout=120) == 0, str(self.process.returncode))
        self.listener.join()


def channel(grpc, server, authority="ca.crt", key="client.key", certificate="client.crt", pki=None):
    file = (lambda name: (pki / name).read_bytes()) if pki else server.file
    credentials = grpc.ssl_channel_credentials(
        server.file("ca.crt"), file(key) if key else None, file(certificate) if certificate else None)
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.enable_retries", 0)]
    return grpc.secure_channel(server.rpc, credentials, options)


def code(call, *arguments):
    import grpc
    try:
        call(*arguments, timeout=60)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def every_call(stubs, storage, pb, connection, server):
    groups, profiles = stubs.GroupsStub(connection), stubs.ProfilesStub(connection)
    ignition, generic = stubs.IgnitionStub(connection), stubs.GenericStub(connection)
    select = stubs.SelectStub(connection)
    profile = storage.Profile(
        id="c9", name="CentOS 9", ignition_id="c9.ign", generic_id="c9",
        boot=storage.NetBoot(kernel="/k", initrd=["/i", "/j"], args=["b=2", "a=1", "b=2"]))
    group = storage.Group(
        id="node1", name="first", profile="c9", selector={"mac": "52-54-00-00-00-01"},
        metadata=json.dumps({"role": "web", "n": [1, 2.5]}).encode())
    profiles.ProfilePut(pb.ProfilePutRequest(profile=profile))
    got = profiles.ProfileGet(pb.ProfileGetRequest(id="c9")).profile
    check("profile-put-get", got == profile, str(got))
    groups.GroupPut(pb.GroupPutRequest(group=group))
    got = groups.GroupGet(pb.GroupGetRequest(id="node1")).group
    same = got.profile == "c9" and json.loads(got.metadata) == json.loads(group.metadata)
    check("group-put-get", same and got.selector["mac"] == "52:54:00:00:00:01", str(got))
    on_disk = (server.data / "groups/node1.json").read_text()
    check("group-file-has-tabs", on_disk.startswith('{\n\t"id": "node1"'), on_disk)
    file = server.data / "profiles/c9.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"install_once": True}))
    profiles.ProfilePut(pb.ProfilePutRequest(profile=profile))
    check("a-put-keeps-install-once", json.loads(file.read_text()).get("install_once") is True, file.read_text())
    ids = [profile.id for profile in profiles.ProfileList(pb.ProfileListRequest()).profiles]
    check("profile-list", ids == ["c9"], str(ids))
    ids = [group.id for group in groups.GroupList(pb.GroupListRequest()).groups]
    check("group-list", ids == ["node1"], str(ids))
    config = b'{"ignition":{"version":"3.3.0"}}'
    ignition.IgnitionPut(pb.IgnitionPutRequest(name="c9.ign", config=config))
    check("ignition-put-get", ignition.IgnitionGet(pb.IgnitionGetRequest(name="c9.ign")).config == config)
    generic.GenericPut(pb.GenericPutRequest(name="c9", config=b"# {{.role}}\n"))
    check("generic-put-get", generic.GenericGet(pb.GenericGetRequest(name="c9")).config == b"# {{.role}}\n")
    labels = {"mac": "52:54:00:00:00:01", "uuid": "x"}
    check("select-group", select.SelectGroup(pb.SelectGroupRequest(labels=labels)).group.id == "node1")
    got = select.SelectProfile(pb.SelectProfileRequest(labels=labels)).profile
    check("select-profile", got.id == "c9" and list(got.boot.args) == ["b=2", "a=1", "b=2"], str(got))
    none = code(select.SelectGroup, pb.SelectGroupRequest(labels={}))
    check("no-group", none == ("NOT_FOUND", "matchbox: No matching Group"), str(none))
    body = http_get(server.http, "/generic?mac=52-54-00-00-00-01")
    check("machine-sees-the-put", body.endswith(b"\r\n\r\n# web\n"), str(body))

    missing = code(profiles.ProfileGet, pb.ProfileGetRequest(id="none"))
    check("missing-profile", missing[0] == "UNKNOWN" and "no such file or directory" in missing[1], str(missing))
    for name, call, request in [
        ("group-without-message", groups.GroupPut, pb.GroupPutRequest()),
        ("profile-without-message", profiles.ProfilePut, pb.ProfilePutRequest()),
        ("group-that-leaves", groups.GroupGet, pb.GroupGetRequest(id="../profiles/c9")),
        ("ignition-that-leaves", ignition.IgnitionPut, pb.IgnitionPutRequest(name="../../x", config=b"")),
    ]:
        check(name, code(call, request)[0] == "INVALID_ARGUMENT", str(code(call, request)))
    for name, call, request in [
        ("group-without-id", groups.GroupPut, pb.GroupPutRequest(group=storage.Group(profile="c9"))),
        ("group-without-profile", groups.GroupPut, pb.GroupPutRequest(group=storage.Group(id="x"))),
        ("profile-without-id", profiles.ProfilePut, pb.ProfilePutRequest(profile=storage.Profile())),
        ("metadata-that-is-no-object", groups.GroupPut,
         pb.GroupPutRequest(group=storage.Group(id="x", profile="c9", metadata=b"[1]"))),
        ("metadata-that-is-binary", groups.GroupPut,
         pb.GroupPutRequest(group=storage.Group(id="x", profile="c9", metadata=bytes(range(256))))),
    ]:
        check(name, code(call, request)[0] == "UNKNOWN", str(code(call, request)))
    # Compact on the wire, and thrice as long with the file's line breaks.
    spread = b'{"a":[' + b",".join([b"0"] * 2_000_000) + b"]}"
    for name, call, request in [
        ("a-file-beyond-what-is-read", generic.GenericPut,
         pb.GenericPutRequest(name="huge", config=bytes(9 << 20))),
        ("a-group-beyond-what-is-read", groups.GroupPut,
         pb.GroupPutRequest(group=storage.Group(id="huge", profile="c9", metadata=spread))),
    ]:
        said = code(call, request)
        check(name, said[0] == "OUT_OF_RANGE" and "8388608" in said[1], str(said))
    check("nothing-huge", not list(server.data.rglob("*huge*")))
    check("nothing-half-written", sorted(p.name for p in (server.data / "groups").iterdir()) == ["node1.json"])

    for name, call, request in [
        ("group-delete", groups.GroupDelete, pb.GroupDeleteRequest(id="node1")),
        ("profile-delete", profiles.ProfileDelete, pb.ProfileDeleteRequest(id="c9")),
        ("ignition-delete", ignition.IgnitionDelete, pb.IgnitionDeleteRequest(name="c9.ign")),
        ("generic-delete", generic.GenericDelete, pb.GenericDeleteRequest(name="c9")),
    ]:
        check(name, code(call, request)[0] == "OK", str(code(call, request)))
        check(name + "-twice", code(call, request)[0] == "OK", str(code(call, request)))


def terraform(stubs, storage, pb, connection, server):
    """create, read, read after an out-of-band delete, create anew, destroy."""
    groups, profiles = stubs.GroupsStub(connection), stubs.ProfilesStub(connection)
    ignition, generic = stubs.IgnitionStub(connection), stubs.GenericStub(connection)
    profile = storage.Profile(id="tf", name="tf", ignition_id="tf.ign", generic_id="tf")
    group = storage.Group(id="tf", name="tf", profile="tf", selector={"os": "installed"}, metadata=b'{"a":"b"}')

    def create():
        profiles.ProfilePut(pb.ProfilePutRequest(profile=profile))
        ignition.IgnitionPut(pb.IgnitionPutRequest(name="tf.ign", config=b'{"ignition":{"version":"3.3.0"}}'))
        generic.GenericPut(pb.GenericPutRequest(name="tf", config=b"x"))
        groups.GroupPut(pb.GroupPutRequest(group=group))

    def read():
        got = profiles.ProfileGet(pb.ProfileGetRequest(id="tf"), timeout=60).profile
        ignition.IgnitionGet(pb.IgnitionGetRequest(name="tf.ign"), timeout=60)
        generic.GenericGet(pb.GenericGetRequest(name="tf"), timeout=60)
        return got.HasField("boot") and groups.GroupGet(pb.GroupGetRequest(id="tf"), timeout=60).group.id == "tf"

    create()
    check("terraform-boot-is-always-there", read())
    (server.data / "profiles/tf.json").unlink()
    gone = code(profiles.ProfileGet, pb.ProfileGetRequest(id="tf"))
    check("terraform-sees-an-out-of-band-delete", gone[0] == "UNKNOWN", str(gone))
    create()
    check("terraform-creates-anew", read())
    (server.data / "groups/tf.json").unlink()
    codes = [
        code(groups.GroupDelete, pb.GroupDeleteRequest(id="tf"))[0],
        code(profiles.ProfileDelete, pb.ProfileDeleteRequest(id="tf"))[0],
        code(ignition.IgnitionDelete, pb.IgnitionDeleteRequest(name="tf.ign"))[0],
        code(generic.GenericDelete, pb.GenericDeleteRequest(name="tf"))[0],
    ]
    check("terraform-destroys-what-is-gone", codes == ["OK"] * 4, str(codes))


def concurrent(stubs, storage, pb, connection):
    """Puts and deletes of one group at once: every answer is OK and readers see whole groups."""
    groups = stubs.GroupsStub(connection)
    wrong = []

    def put(number):
        # What a thread dies of is told to nobody else.
        try:
            put_and_list(number)
        except Exception as error:
            wrong.append(repr(error))

    def put_and_list(number):
        for _ in range(20):
            text = json.dumps({"n": str(number) * 2000}).encode()
            group = storage.Group(id="busy", profile="p", metadata=text)
            if code(groups.GroupPut, pb.GroupPutRequest(group=group))[0] != "OK":
                wrong.append("put")
            if number == 0 and code(groups.GroupDelete, pb.GroupDeleteRequest(id="busy"))[0] != "OK":
                wrong.append("delete")
            for group in groups.GroupList(pb.GroupListRequest()).groups:
                if group.metadata and len(json.loads(group.metadata)["n"]) != 2000:
                    wrong.append("half a group")

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    check("concurrent-puts-and-deletes", not wrong, str(wrong[:3]))


def strangers(grpc, stubs, pb, server, work):
    def refused(name, connection):
        got = code(stubs.GroupsStub(connection).GroupList, pb.GroupListRequest())
        check(name, got[0] == "UNAVAILABLE", str(got))

    refused("no-certificate", channel(grpc, server, key=None, certificate=None))
    foreign = work / "foreign"
    subprocess.run([LARDER, "provision", "pki", "init", "--dir", foreign, "--san", "x"], check=True, capture_output=True)
    refused("foreign-certificate", channel(grpc, server, pki=foreign))
    refused("server-certificate-as-client", channel(grpc, server, key="server.key", certificate="server.crt"))
    refused("expired-certificate", channel(grpc, server, pki=by_openssl(server.pki, work / "expired", days=-1)))
    old = by_openssl(server.pki, work / "version-1", extensions=None)
    refused("certificate-of-version-1", channel(grpc, server, pki=old))
    host, port = server.rpc.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.settimeout(60)
        answer = plain.recv(100)
    check("plain-text-on-the-tls-port", not answer.startswith(b"HTTP"), str(answer))


def by_openssl(pki, folder, days=1, extensions="extendedKeyUsage=clientAuth\n"):
    """A client certificate of the right authority; without extensions openssl makes it of version 1."""
    folder.mkdir()
    run = lambda *words: subprocess.run(["openssl", *words], check=True, capture_output=True)
    run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / "client.key")
    run("req", "-new", "-key", folder / "client.key", "-subj", "/CN=old", "-out", folder / "csr")
    more = []
    if extensions:
        (folder / "ext").write_text(extensions)
        more = ["-extfile", folder / "ext"]
    run("x509", "-req", "-in", folder / "csr", "-CA", pki / "ca.crt", "-CAkey", pki / "ca.key",
        "-set_serial", "7", "-days", str(days), *more, "-out", folder / "client.crt")
    return folder


def http_get(address, path):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def main():
    with tempfile.TemporaryDirectory() as folder:
        storage, pb, stubs = generated(folder)
        import grpc
        work = pathlib.Path(folder)
        server = Server(work)
        try:
            connection = channel(grpc, server)
            every_call(stubs, storage, pb, connection, server)
            terraform(stubs, storage, pb, connection, server)
            concurrent(stubs, storage, pb, connection)
            strangers(grpc, stubs, pb, server, work)
            connection.close()
        finally:
            server.stop()
        mends = [line for line in server.log if "-extfile" in line]
        check("its-refusal-names-the-mend", len(mends) >= 1 and "UnsupportedCertVersion" in mends[0], server.log[-3:])
    end()


if __name__ == "__main__":
    main()
