"""A stand-in for Kubernetes' API where there is no cluster: it speaks to kubectl, and keeps what that gives it.

It checks each resource by Kubernetes' own schemas. A job is done at once, and every deployment has one pod, in which a
command succeeds: there is nothing that would run them.
"""

import base64
import hashlib
import http.server
import itertools
import json
import re
import struct
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

__all__ = ["KubernetesApi", "Resource"]

Resource = dict[str, Any]
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?P<exec>/exec)?"
)
PROTOBUF = b"k8s\0"
CLUSTER_WIDE = {"Namespace"}
WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Of RFC 6455, section 1.3."""
NO_MORE = 3
"""The channel on which a command's end is told: v5.channel.k8s.io."""


def plural(kind: str) -> str:
    lower = kind.lower()
    return f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}s"


def fields(message: bytes) -> dict[int, list[Any]]:
    """What stands in a message of Protocol Buffers, by the numbers of its fields."""
    found: dict[int, list[Any]] = {}
    for field in UnknownFieldSet(Empty.FromString(message)):
        found.setdefault(field.field_number, []).append(field.data)
    return found


def decoded(content: bytes) -> Resource:
    """A namespace or a secret as kubectl makes them: k8s.io/api/core/v1/generated.proto."""
    outer = fields(content.removeprefix(PROTOBUF))
    version, kind = (value[0].decode() for _, value in sorted(fields(outer[1][0]).items()))
    inner = fields(outer[2][0])
    resource = {"apiVersion": version, "kind": kind, "metadata": {"name": fields(inner[1][0])[1][0].decode()}}
    if kind == "Secret":
        entries = [fields(entry) for entry in inner[2]]
        resource["data"] = {one[1][0].decode(): base64.b64encode(one[2][0]).decode() for one in entries}
        resource["type"] = inner[3][0].decode()
    return resource


def merged(old: Any, change: Any) -> Any:
    """RFC 7396."""
    if not isinstance(change, dict):
        return change
    kept = dict(old) if isinstance(old, dict) else {}
    for name, value in change.items():
        kept[name] = merged(kept.get(name), value)
    return {name: value for name, value in kept.items() if value is not None}


class KubernetesApi(http.server.ThreadingHTTPServer):
    """A cluster that has these kinds, as pairs of `apiVersion` and `kind`."""

    daemon_threads = True

    def __init__(self, kinds: set[tuple[str, str]], validate: Callable[[Resource], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kinds = kinds
        self.validate = validate
        self.objects: dict[tuple[str, str | None, str], Resource] = {}
        """By plural, namespace and name."""
        self.commands: list[tuple[str, list[str]]] = []
        """Which were run, and in which pod."""
        self.revisions = itertools.count(1)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"

    def keep(self, resource: Resource, namespace: str | None = None) -> Resource:
        """Have a resource, from now on or anew."""
        kind, about = resource["kind"], resource["metadata"]
        revision = str(next(self.revisions))
        about |= {"resourceVersion": revision, "uid": about.get("uid", f"uid-{revision}")}
        about |= {"namespace": namespace} if namespace else {}
        if kind == "Job":
            resource["status"] = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
        self.objects[plural(kind), namespace, about["name"]] = resource
        if kind == "Deployment":
            template = resource["spec"]["template"]
            labels = template["metadata"]["labels"] | resource["spec"]["selector"]["matchLabels"]
            ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            self.keep(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"{about['name']}-0", "labels": labels},
                    "spec": template["spec"],
                    "status": ready,
                },
                namespace,
            )
        return resource


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KubernetesApi

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, reason: str, message: str) -> None:
        self._answer(
            status,
            {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status, "reason": reason,
             "message": message},
        )  # fmt: skip

    def _body(self) -> Any:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        return decoded(content) if content.startswith(PROTOBUF) else json.loads(content)

    @property
    def _asked(self) -> re.Match[str] | None:
        return PATH.fullmatch(urlsplit(self.path).path)

    @property
    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)

    def _known(self, asked: re.Match[str]) -> tuple[str, str | None, str]:
        return asked["plural"], asked["namespace"], asked["name"]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if (found := self._described(path)) is not None:
            self._answer(200, found)
            return
        asked = self._asked
        if asked is None:
            self._refuse(404, "NotFound", f"there is no {path}")
        elif asked["exec"]:
            self._execute(asked)
        elif not asked["name"]:
            self._list(asked)
        elif (resource := self.server.objects.get(self._known(asked))) is not None:
            self._answer(200, resource)
        else:
            self._refuse(404, "NotFound", f"there is no {asked['plural']} {asked['name']}")

    def _described(self, path: str) -> Any:
        """What the API says of itself."""
        versions = {version for version, _ in self.server.kinds}
        if path == "/version":
            return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [
                {"name": name.split("/")[0], "versions": [{"groupVersion": name, "version": name.split("/")[1]}]}
                for name in sorted(versions - {"v1"})
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        paths = {(f"/apis/{name}" if "/" in name else f"/api/{name}"): name for name in versions}
        if path in paths:
            resources = [
                {"name": plural(kind), "singularName": kind.lower(), "kind": kind,
                 "namespaced": kind not in CLUSTER_WIDE, "verbs": ["create", "delete", "get", "list", "patch", "watch"]}
                for version, kind in sorted(self.server.kinds) if version == paths[path]
            ]  # fmt: skip
            return {"kind": "APIResourceList", "groupVersion": paths[path], "resources": resources}
        if path == "/openapi/v3":
            return {"paths": {one[1:]: {"serverRelativeURL": f"/openapi/v3{one}"} for one in paths}}
        if (one := path.removeprefix("/openapi/v3")) in paths:
            return self._schema(one, paths[one])
        return None

    def _schema(self, path: str, version: str) -> Any:
        """That the API itself looks for unknown fields, so that kubectl need not."""
        *group, number = version.split("/")
        kinds = [kind for name, kind in self.server.kinds if name == version]
        return {
            "openapi": "3.0.0",
            "info": {"title": version, "version": "1"},
            "paths": {
                f"{path}/namespaces/{{namespace}}/{plural(kind)}/{{name}}": {
                    "patch": {
                        "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
                        "responses": {},
                        "x-kubernetes-group-version-kind": {"group": "".join(group), "version": number, "kind": kind},
                    }
                }
                for kind in kinds
            },
        }

    def _list(self, asked: re.Match[str]) -> None:
        fields = [one.split("=", 1) for one in self._query.get("fieldSelector", [""])[0].split(",") if one]
        labels = [one.split("=", 1) for one in self._query.get("labelSelector", [""])[0].split(",") if one]
        items = [
            resource
            for (name, namespace, _), resource in self.server.objects.items()
            if (name, namespace) == (asked["plural"], asked["namespace"])
            and all(resource["metadata"]["name"] == value for field, value in fields if field == "metadata.name")
            and all(resource["metadata"].get("labels", {}).get(label) == value for label, value in labels)
        ]
        version = f"{asked['group']}/{asked['version']}" if asked["group"] else asked["version"]
        kind = next(kind for _, kind in self.server.kinds if plural(kind) == asked["plural"])
        about = {"resourceVersion": str(next(self.server.revisions))}
        self._answer(200, {"apiVersion": version, "kind": f"{kind}List", "metadata": about, "items": items})

    def do_POST(self) -> None:
        asked, resource = self._asked, self._body()
        assert asked is not None, self.path
        try:
            self.server.validate(resource)
        except Exception as error:  # noqa: BLE001 - whatever the schema says
            self._refuse(422, "Invalid", str(error))
            return
        known = asked["plural"], asked["namespace"], resource["metadata"]["name"]
        if known in self.server.objects:
            self._refuse(409, "AlreadyExists", f"{known} is there already")
        elif asked["namespace"] and ("namespaces", None, asked["namespace"]) not in self.server.objects:
            self._refuse(404, "NotFound", f"there is no namespace {asked['namespace']}")
        else:
            self._answer(201, self.server.keep(resource, asked["namespace"]))

    def do_PATCH(self) -> None:
        asked, change = self._asked, self._body()
        assert asked is not None, self.path
        known = self._known(asked)
        if known in self.server.objects:
            changed = merged(self.server.objects[known], change)
            self._answer(200, self.server.keep(changed, asked["namespace"]))
        else:
            self._refuse(404, "NotFound", f"there is no {known}")

    def do_DELETE(self) -> None:
        asked = self._asked
        assert asked is not None, self.path
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        gone = self.server.objects.pop(self._known(asked), None)
        if gone is None:
            self._refuse(404, "NotFound", f"there is no {asked['name']}")
        else:
            self._answer(200, gone)

    def _execute(self, asked: re.Match[str]) -> None:
        """RFC 6455: what the command says is nothing, and it succeeds."""
        self.server.commands.append((asked["name"], self._query["command"]))
        key = self.headers["Sec-WebSocket-Key"] + WEBSOCKET
        self.send_response(101)
        for name, value in (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()),
            ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
        ):
            self.send_header(name, value)
        self.end_headers()
        told = bytes([NO_MORE]) + json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Success"}).encode()
        self.wfile.write(struct.pack("!BB", 0x82, len(told)) + told)  # shorter than 126 bytes
        self.wfile.write(struct.pack("!BBH", 0x88, 2, 1000))
        self.close_connection = True
