"""The manifests, as far as they can be tried without a cluster: by Kubernetes' own schemas, and by reading them."""

import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from service.settings import Settings
from tests.acceptance.documentation import ROOT, apart, ends
from tests.http_servers import answering
from tests.kubernetes_api import KubernetesApi, Resource

FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OVERLAYS = ["base", "ray", "production"]
CUSTOM = {"RayCluster", "ScaledObject", "TriggerAuthentication"}
"""Kinds that an operator of its own brings: Kubernetes has no schema of them."""
KUBECTL = shutil.which("kubectl")

CONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: URL}}]
users: [{name: me, user: {}}]
"""


def written() -> Iterator[tuple[Path, Resource]]:
    """Every manifest, but for those of Kustomize itself and what it patches."""
    for path in sorted(FOLDER.glob("*/*.yaml")):
        if path.name != "kustomization.yaml" and path != FOLDER / "ray" / "worker.yaml":
            for resource in YAML(typ="safe").load_all(path):
                yield path, resource


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Resource]:
    """What is applied to a cluster."""
    if KUBECTL is None:
        pytest.skip("there is no kubectl, which has Kustomize in it")
    done = subprocess.run(
        [KUBECTL, "kustomize", FOLDER / request.param], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(YAML(typ="safe").load_all(done.stdout))


def pod(resource: Resource) -> Any:
    """The template of the pods that a resource makes, if it makes some."""
    spec = resource.get("spec", {})
    return spec.get("jobTemplate", {}).get("spec", spec).get("template")


def pods() -> list[Any]:
    return [template for _, resource in written() if (template := pod(resource)) is not None]


def of(kind: str, name: str) -> Resource:
    (found,) = [one for _, one in written() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def validate(resource: Resource) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="the schemas are in the package kubernetes-validate")
    if resource["kind"] not in CUSTOM:
        validator.validate(resource, "1.34", strict=True)


@pytest.mark.parametrize(
    ("path", "resource"), [*written()], ids=lambda value: value.name if isinstance(value, Path) else value["kind"]
)
def test_a_manifest_is_what_kubernetes_takes(path: Path, resource: Resource) -> None:
    validate(resource)


def test_an_overlay_is_what_kubernetes_takes(overlay: list[Resource]) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in overlay]
    assert len(set(names)) == len(names) > 10
    for resource in overlay:
        validate(resource)
        if (template := pod(resource)) is not None:
            for container in template["spec"]["containers"]:
                assert container["image"].split(":")[1] == VERSION


def test_nothing_else_than_keda_says_how_many_workers_there_are(overlay: list[Resource]) -> None:
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in overlay if "scaleTargetRef" in one.get("spec", {})}
    for deployment in (one for one in overlay if one["kind"] == "Deployment"):
        assert ("replicas" in deployment["spec"]) is (deployment["metadata"]["name"] not in scaled)


def test_no_pod_can_become_root_write_its_image_or_talk_to_kubernetes() -> None:
    assert len(pods()) == 5
    for template in pods():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_no_pod_gets_variables_of_services_which_would_be_taken_for_settings() -> None:
    """A Service `epochd` sets EPOCHD_PORT to tcp://..., in every pod of its namespace that does not refuse it."""
    assert all(template["spec"]["enableServiceLinks"] is False for template in pods())


def test_every_pod_is_closed_in_and_only_the_api_is_reached() -> None:
    policies = [one["spec"] for _, one in written() if one["kind"] == "NetworkPolicy"]
    components = {template["metadata"]["labels"]["app.kubernetes.io/component"] for template in pods()}
    (closed,) = [
        one["podSelector"]["matchExpressions"][0]["values"]
        for one in policies
        if not one.keys() & {"ingress", "egress"}
    ]
    assert components == set(closed)
    entered = [one["podSelector"]["matchLabels"] for one in policies if "ingress" in one]
    assert entered[0] == {"app.kubernetes.io/component": "api"}
    assert all("ray.io/cluster" in str(one) for one in policies[3:])


def test_pods_have_time_to_end() -> None:
    api = of("Deployment", "epochd-api")["spec"]["template"]["spec"]
    pause = int(api["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert api["terminationGracePeriodSeconds"] > pause + 2 * 3
    worker = of("Deployment", "epochd-worker")["spec"]["template"]["spec"]
    assert worker["terminationGracePeriodSeconds"] > 2 * Settings().drain_seconds


def test_an_upgrade_takes_no_api_away_before_another_is_ready() -> None:
    spec = of("Deployment", "epochd-api")["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert spec["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert of("HorizontalPodAutoscaler", "epochd-api")["spec"]["minReplicas"] >= 2
    assert of("PodDisruptionBudget", "epochd-api")["spec"]["minAvailable"] >= 1


@pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl")
def test_the_pages_commands_are_what_kubectl_takes_and_give_what_the_manifests_want(tmp_path: Path) -> None:
    begin, make_key, upgrade = apart("deployment.md", __file__)
    kinds = {(one["apiVersion"], one["kind"]) for _, one in written()}
    kinds |= {("v1", kind) for kind in ("Namespace", "Secret", "Pod", "ServiceAccount")}
    with answering(KubernetesApi(kinds, validate)) as cluster:
        for name in ("ingress-nginx", "monitoring"):
            cluster.keep({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        (tmp_path / "config").write_text(CONFIG.replace("URL", cluster.url))

        def paste(block: str) -> None:
            ends(block, ROOT, KUBECONFIG=str(tmp_path / "config"), HOME=str(tmp_path))

        paste(begin)
        secrets = {
            (name, key) for (kind, _, name), one in cluster.objects.items() if kind == "secrets" for key in one["data"]
        }
        deployed = [one for (_, namespace, _), one in cluster.objects.items() if namespace == "epochd"]
        assert set() < wanted(deployed) <= secrets
        assert {one["kind"] for one in deployed} >= {"Deployment", "Service", "Job", "CronJob", "ScaledObject"}
        for name in ("ingress-nginx", "monitoring"):
            assert cluster.objects["namespaces", None, name]["metadata"]["labels"] == {"epochd.client": "true"}

        paste(make_key)
        assert cluster.commands == [
            ("epochd-worker-0", ["epochd", "keys", "create", "--name", "admin", "--scope", "admin"])
        ]

        migrated = cluster.objects["jobs", "epochd", "epochd-migrate"]["metadata"]["uid"]
        paste(upgrade)
        assert cluster.objects["jobs", "epochd", "epochd-migrate"]["metadata"]["uid"] != migrated


def wanted(resources: list[Resource]) -> set[tuple[str, str]]:
    """Secrets that containers refer to, each with a key that they ask for."""
    return {
        (source["name"], source["key"])
        for resource in resources
        if (template := pod(resource)) is not None
        for container in template["spec"]["containers"]
        for variable in container.get("env", [])
        if (source := variable.get("valueFrom", {}).get("secretKeyRef")) is not None
    }
